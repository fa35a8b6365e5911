"""Row 9: from process start to the first update on digits, and a second run's first update.

python -m bench.startup WHEN DEVICE # in each process; WHEN: time.time() just before its start
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.cells import ROOT, Plan, classified, configured
from bench.line import Line
from bench.timing import Spread, spread
from sns.train.run import advance
from sns.train.session import start

LIMIT = 5.0  # seconds


def startup(plan: Plan) -> Iterator[Line]:
    """A few new processes; the first, which fills the disk cache, is not counted."""
    began, taken = time.monotonic(), []
    for _ in range(2 if plan.tiny else 4):
        command = [sys.executable, "-m", "bench.startup", str(time.time()), plan.device_name]
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


def main(launched: str, device: str) -> None:
    """One of the processes; prints both times."""
    first = _step(0, device) - float(launched)
    again = time.time()
    print(first, _step(1, device) - again)


def _step(seed: int, device: str) -> float:
    """The time at the end of the first update of a new run."""
    with TemporaryDirectory() as folder:
        overrides = ["setting=digits_vgg", f"results={folder}", f"seed={seed}", f"train.device={device}"]
        session = start(configured(*overrides))
        classified(session).model.train()
        advance(session)
        session.task.running.sums["loss"].item()
        return time.time()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(ROOT) / "scripts"))
    import train  # noqa: F401  the imports of the command line

    main(*sys.argv[1:])
