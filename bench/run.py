"""Measures the rows, prints each line, and writes bench/results/<hardware>.json and the page.

python bench/run.py [--device cpu|cuda] [--rows 1,5] [--seconds 540] [--out FILE] | --render

The JSON is written after every line, so that whatever ends the program leaves its figures.
"""

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
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
from bench.guard import Stop, stopped  # noqa: E402
from bench.line import Line  # noqa: E402
from bench.methods import gan_methods, methods  # noqa: E402
from bench.pipeline import pipeline  # noqa: E402
from bench.render import printed, render  # noqa: E402
from bench.schedule import schedule  # noqa: E402
from bench.spectra import spectra  # noqa: E402
from bench.startup import startup  # noqa: E402
from bench.steps import adversarial, distance, spectral  # noqa: E402
from sns.common import accelerator  # noqa: E402
from sns.common.command import reports_errors  # noqa: E402
from sns.common.files import write_text  # noqa: E402
from sns.record.environment import describe  # noqa: E402
from sns.train.device import choose_device  # noqa: E402

RESULTS, README = ROOT / "bench" / "results", ROOT / "bench" / "README.md"
Row = Callable[[Plan], Iterator[Line]]
ROWS: dict[int, tuple[Row, float, float]] = {  # number: row, seconds on a CPU and on a GPU; the most valuable first
    5: (distance, 80, 55),
    1: (spectral, 60, 30),
    2: (adversarial, 45, 20),
    4: (epoch, 110, 60),
    10: (gpu, 0, 165),
    8: (schedule, 300, 30),
    3: (pipeline, 10, 20),
    6: (spectra, 120, 60),
    9: (startup, 150, 30),
    7: (analysis, 20, 30),
    12: (methods, 150, 40),
    13: (gan_methods, 60, 20),
}


@reports_errors
def main(arguments: list[str] | None = None) -> int:
    """0, or 1 if a row failed. Rows that are left out for lack of time are named."""
    options = _options(arguments)
    if options.render:
        README.write_text(render(RESULTS), encoding="utf-8")
        return 0
    device = choose_device(options.device)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    results = Results(describe(device), options)
    with TemporaryDirectory() as folder:
        ends = time.monotonic() + options.seconds
        fastest = None if accelerator.of(device).has_bf16() else "fp32"
        plan = Plan(device, Path(folder), options.tiny, ends=ends, precision=options.precision or fastest)
        failed, left, reason = _measure_all(plan, results, options)
    if results.path is not None and results.path.parent == RESULTS:
        README.write_text(render(RESULTS), encoding="utf-8")
    if left:
        numbers = ",".join(map(str, left))
        print(f"left out, because {reason}: rows {numbers}. Measure them with ROWS={numbers}", file=sys.stderr)
    return int(failed)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Paired measurements against peers and floors.")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda or cuda:N")
    parser.add_argument("--rows", type=_rows, default=list(ROWS), help="such as 1,5; all unless given")
    parser.add_argument("--threads", type=int, help="CPU threads; torch's choice unless given")
    parser.add_argument("--precision", help="fp32, tf32 or bf16; as configured unless given; a results file of its own")
    parser.add_argument("--seconds", type=float, default=540.0, help="all rows end after this time (540)")
    parser.add_argument("--out", type=Path, help="a file (.json) or folder for the figures, instead of bench/results")
    parser.add_argument("--tiny", action="store_true", help="digits networks; nothing written without --out")
    parser.add_argument("--render", action="store_true", help="only write bench/README.md from the results")
    return parser.parse_args(arguments)


def _rows(text: str) -> list[int]:
    rows = [int(part) for part in text.split(",") if part]
    unknown = sorted(set(rows) - set(ROWS))
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no row {unknown[0]}; the rows are {sorted(ROWS)}")
    return rows or list(ROWS)


def _measure_all(plan: Plan, results: "Results", options: argparse.Namespace) -> tuple[bool, list[int], str]:
    """Whether a row failed; the rows left out, wholly or in part; and why."""
    seconds = {number: on_gpu if plan.gpu else on_cpu for number, (_, on_cpu, on_gpu) in ROWS.items()}
    left = [number for number in ROWS if number in options.rows and seconds[number] > 0]
    failed = False
    try:
        with stopped(options.seconds, "of --seconds"):
            while left:
                here = plan.share(seconds[left[0]], sum(seconds[number] for number in left))
                failed |= not _measure(left[0], here, results)
                del left[0]
    except Stop as stop:
        return failed, left, str(stop)
    return failed, [], ""


def _measure(number: int, plan: Plan, results: "Results") -> bool:
    """Measures a row, and writes it after each line. False if it failed."""
    began, load, lines, ok = time.monotonic(), _load(), list[Line](), True

    def add(line: Line) -> None:
        print(printed(line), flush=True)
        lines.append(line)
        results.write(number, {"load": load, "seconds": time.monotonic() - began}, lines)

    try:
        for line in ROWS[number][0](plan):
            add(line)
    except Exception as error:
        ok = False
        message = f"failed: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        add(Line(number, "the rest of the row", "", note=message))
        if os.environ.get("SNS_DEBUG"):
            raise
    except Stop as stop:
        if lines:  # else the figures of an earlier measurement stay
            add(Line(number, "the rest of the row", "", note=f"left out: {stop}"))
        raise
    print(f"   row {number}: {time.monotonic() - began:.0f} s", flush=True)
    return ok


def _load() -> float | None:
    """Mean number of runnable processes over the last minute, which spoil absolute times."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


class Results:
    """The file of the figures. Rows measured now replace their last figures; the others remain."""

    def __init__(self, environment: dict[str, Any], options: argparse.Namespace) -> None:
        name = re.sub(r"[^a-z0-9]+", "-", f"{environment['device']} {options.precision or ''}".lower()).strip("-")
        out = (None if options.tiny else RESULTS) if options.out is None else options.out
        self.path = out if out is None or out.suffix == ".json" else out / f"{name}.json"
        self.commit = {key: environment[key] for key in ("commit", "dirty")}
        known = self.path is not None and self.path.is_file()
        rows = json.loads(self.path.read_text(encoding="utf-8"))["rows"] if self.path is not None and known else {}
        hardware = {key: value for key, value in environment.items() if key not in self.commit}
        self.tree: dict[str, Any] = {"environment": hardware, "rows": rows}

    def write(self, number: int, facts: dict[str, Any], lines: list[Line]) -> None:
        """Writes the file with these lines of a row, and its date and commit."""
        row = {"date": datetime.now(UTC).strftime("%Y-%m-%d"), **self.commit, **facts}
        self.tree["rows"][str(number)] = row | {"lines": [line.to_dict() for line in lines]}
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.path, json.dumps(self.tree, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main(None))
