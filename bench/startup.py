"""Row 9: from process start to the first update on digits, and a second run's first update."""

import subprocess
import sys
import time
from collections.abc import Iterator

from bench.cells import ROOT, Plan
from bench.line import Line
from bench.timing import Spread, spread

LIMIT = 5.0  # seconds


def startup(plan: Plan) -> Iterator[Line]:
    """A few new processes; the first, which fills the disk cache, is not counted."""
    began, taken = time.monotonic(), []
    for _ in range(2 if plan.tiny else 4):
        script = str(ROOT / "bench" / "first_step.py")
        command = [sys.executable, script, str(time.time())]
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        first, second = map(float, done.stdout.split()[-2:])
        taken.append((first, second))
        if time.monotonic() - began > plan.budget:
            break
    counted = taken[1:] or taken
    yield _line("process start to first update, digits VGG", spread([first for first, _ in counted]))
    yield _line("second run in the same process to its first update", spread([second for _, second in counted]))


def _line(what: str, measured: Spread) -> Line:
    return Line(9, what, "", "s", measured, figure=measured, kind="s", target=LIMIT, note="new processes")
