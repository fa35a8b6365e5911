"""Row 7: seconds from records to everything a reader sees.

The records are a synthetic full experiment: 32 cells x 5 seeds x 300 epochs.
"""

import contextlib
import importlib
import io
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.cells import ROOT, Plan
from bench.line import Line
from bench.timing import spread

SCRIPTS = ("table1", "figures", "claims", "report")


def analysis(plan: Plan) -> Iterator[Line]:
    """A line a script, and the total; measured once, because it takes half a minute."""
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "scripts")]
    seeds, epochs = (1, 5) if plan.tiny else (5, 300)
    what = f"32 cells x {seeds} seeds x {epochs} epochs"
    began = time.perf_counter()
    modules = {name: importlib.import_module(name) for name in SCRIPTS}
    taken = {"imports": time.perf_counter() - began}
    with TemporaryDirectory() as folder:
        _write(Path(folder), seeds, epochs)
        for name, script in modules.items():
            began = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()):
                code = script.main([folder])
            taken[name] = time.perf_counter() - began
            if code != 0:
                raise SystemExit(f"error: {name} failed")
        size = (Path(folder) / "table1" / "report.html").stat().st_size / 1e6
    for name, seconds in (taken | {"all": sum(taken.values())}).items():
        note = f"report {size:.1f} MB" if name == "report" else ""
        yield Line(7, f"{name}, {what}", "", "s", spread([seconds]), note=note)


def _write(folder: Path, seeds: int, epochs: int) -> None:
    from sns.analysis.cells import METHODS, PAPER_SETTINGS, REGIMES

    synthetic = importlib.import_module("synthetic")
    runs = folder / "runs" / "table1"
    synthetic.write_grid(runs, PAPER_SETTINGS, METHODS, REGIMES, range(seeds), epochs=epochs)
