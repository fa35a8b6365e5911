"""Measures the rows, prints each line, and writes bench/results/<hardware>.json and the page.

python bench/run.py [--device cpu|cuda] [--rows 1,5] [--precision bf16] | --render | --dry-cuda
"""

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from bench.analysis import analysis  # noqa: E402
from bench.cells import Plan  # noqa: E402
from bench.epochs import epoch  # noqa: E402
from bench.gpu import gpu  # noqa: E402
from bench.line import Line  # noqa: E402
from bench.pipeline import pipeline  # noqa: E402
from bench.render import printed, render  # noqa: E402
from bench.schedule import schedule  # noqa: E402
from bench.spectra import spectra  # noqa: E402
from bench.startup import startup  # noqa: E402
from bench.steps import adversarial, distance, spectral  # noqa: E402
from sns.common.command import reports_errors  # noqa: E402
from sns.common.errors import UserError  # noqa: E402
from sns.common.files import write_text  # noqa: E402
from sns.record.environment import describe  # noqa: E402

RESULTS, README = ROOT / "bench" / "results", ROOT / "bench" / "README.md"
Row = Callable[[Plan], Iterator[Line]]
ROWS: dict[int, tuple[Row, float, float]] = {  # number: row, seconds on a CPU and on a GPU; the most valuable first
    5: (distance, 150, 55),
    1: (spectral, 80, 30),
    2: (adversarial, 45, 20),
    4: (epoch, 110, 60),
    10: (gpu, 0, 165),
    8: (schedule, 70, 30),
    3: (pipeline, 30, 20),
    6: (spectra, 25, 20),
    9: (startup, 30, 30),
    7: (analysis, 30, 30),
}


@reports_errors
def main(arguments: list[str] | None = None) -> int:
    """0 if every row was measured, else 1."""
    options = _options(arguments)
    if options.render:
        README.write_text(render(RESULTS), encoding="utf-8")
        return 0
    device = torch.device("cpu" if options.dry_cuda else options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError("no CUDA device is visible; omit DEVICE to measure on the CPU")
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    as_cuda = options.dry_cuda or device.type == "cuda"
    environment, measured, failed = describe(device), {}, False
    with TemporaryDirectory() as folder:
        plan = Plan(device, Path(folder), as_cuda, options.tiny or options.dry_cuda, precision=options.precision)
        for number, (row, on_cpu, on_gpu) in ROWS.items():
            budget = (on_gpu if as_cuda else on_cpu) * options.scale
            if number in options.rows and budget > 0:
                budget = min(budget, 1.0) if plan.tiny else budget
                measured[str(number)], ok = _measure(number, row, replace(plan, budget=budget), environment)
                failed |= not ok
    if not plan.tiny:
        _write(environment, measured, options.precision)
        README.write_text(render(RESULTS), encoding="utf-8")
    return int(failed)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Paired measurements against peers and floors.")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--rows", type=_rows, default=list(ROWS), help="such as 1,5; all unless given")
    parser.add_argument("--threads", type=int, help="CPU threads; torch's choice unless given")
    parser.add_argument("--precision", help="fp32, tf32 or bf16; as configured unless given; a results file of its own")
    parser.add_argument("--scale", type=float, default=1.0, help="times the seconds that each row may take")
    parser.add_argument("--tiny", action="store_true", help="digits networks, nothing written")
    parser.add_argument("--dry-cuda", action="store_true", help="the GPU's version, tiny, on the CPU; nothing written")
    parser.add_argument("--render", action="store_true", help="only write bench/README.md from the results")
    return parser.parse_args(arguments)


def _rows(text: str) -> list[int]:
    rows = [int(part) for part in text.split(",") if part]
    unknown = sorted(set(rows) - set(ROWS))
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no row {unknown[0]}; the rows are {sorted(ROWS)}")
    return rows or list(ROWS)


def _measure(number: int, row: Row, plan: Plan, environment: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """The row's lines with date, commit and load; a failure is one of its lines."""
    began, load, lines, ok = time.monotonic(), _load(), [], True
    try:
        for line in row(plan):
            print(printed(line), flush=True)
            lines.append(line)
    except Exception as error:
        ok = False
        message = f"failed: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        lines.append(Line(number, "the rest of the row", "", note=message))
        print(printed(lines[-1]), flush=True)
        if os.environ.get("SNS_DEBUG"):
            raise
    tree = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": environment["commit"],
        "dirty": environment["dirty"],
        "load": load,
        "seconds": time.monotonic() - began,
        "lines": [line.to_dict() for line in lines],
    }
    print(f"   row {number}: {tree['seconds']:.0f} s", flush=True)
    return tree, ok


def _load() -> float | None:
    """Mean number of runnable processes over the last minute, which spoil absolute times."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _write(environment: dict[str, Any], measured: dict[str, Any], precision: str | None) -> None:
    """Rows measured now replace their last figures; the others remain."""
    name = f"{environment['device']} {precision or ''}"
    path = RESULTS / f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.json"
    before = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.is_file() else {}
    RESULTS.mkdir(exist_ok=True)
    hardware = {key: value for key, value in environment.items() if key not in ("commit", "dirty")}
    write_text(path, json.dumps({"environment": hardware, "rows": before | measured}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
