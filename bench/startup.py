"""Row 9: from process start to the first update on digits; a large sweep; two processes for runs.

python -m bench.startup WHEN DEVICE # in each process; WHEN: time.time() just before its start
"""

import contextlib
import importlib
import io
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.cells import ROOT, Plan, classified, configured
from bench.line import Line, faster
from bench.timing import Spread, spread
from sns.launch.handover import SweepRun
from sns.launch.run_sweep import Sweep
from sns.launch.sweep import dry_run
from sns.record import store
from sns.train.run import advance
from sns.train.session import start

FIRST, SECOND = 1.5, 5.0  # targets: seconds beside `import torch`, and of a second run
EACH = 0.02  # target: seconds a run of a sweep, to plan, to launch and to show
SPEED_UP = 1.8  # target of two processes
IMPORT = "import time, torch; print(time.time())"


def startup(plan: Plan) -> Iterator[Line]:
    """New processes that alternate with such that only import torch; then what a sweep costs."""
    began, ours, theirs, again = time.monotonic(), list[float](), list[float](), list[float]()
    for _ in range(2 if plan.tiny else 6):
        launched = time.time()
        theirs.append(_printed("-c", IMPORT)[-1] - launched)
        first, second = _printed("-m", "bench.startup", str(time.time()), plan.device_name)[-2:]
        ours.append(first)
        again.append(second)
        if time.monotonic() - began > plan.budget / 3:
            break
    ours, theirs, again = (taken[1:] or taken for taken in (ours, theirs, again))  # the first fills the disk cache
    more = spread([a - b for a, b in zip(ours, theirs, strict=True)])
    what, note = "process start to first update, digits VGG", "new processes; the figure is the difference"
    against = "import torch in a new process"
    yield Line(9, what, against, "s", spread(ours), spread(theirs), more, kind="s", target=FIRST, note=note)
    yield _line("second run in the same process to its first update", spread(again), SECOND)
    yield from _sweep(plan)
    if not (plan.tiny or plan.gpu):
        yield _two_processes(plan)


def _printed(*words: str) -> list[float]:
    """The numbers that a Python process with these arguments prints."""
    done = subprocess.run([sys.executable, *words], cwd=ROOT, check=True, capture_output=True, text=True)
    return [float(word) for word in done.stdout.split()]


def _line(what: str, measured: Spread, target: float, note: str = "new processes") -> Line:
    return Line(9, what, "", "s", measured, figure=measured, kind="s", target=target, note=note)


def _sweep(plan: Plan) -> Iterator[Line]:
    """Seconds a run of a sweep whose runs are all finished, in one process."""
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "scripts")]
    count = 10 if plan.tiny else 1_000
    with TemporaryDirectory() as folder:
        words = ["experiment=demo", "setting=digits_vgg", "method=vanilla,decay", "batch=small", f"results={folder}"]
        words += [f"seed=range({count // 2})", "track=disabled"]
        runs, _ = dry_run(words)
        _finish(runs, Path(folder))
        plans, shows = (importlib.import_module(name).main for name in ("plan", "status"))
        steps: dict[str, Callable[[], int]] = {
            "planned (scripts/plan.py)": lambda: plans(words),
            "composed and launched (train.py -m)": lambda: Sweep(dry_run(words)[0], words).run(_none),
            "shown (scripts/status.py)": lambda: shows([folder]),
        }
        for what, step in steps.items():
            began = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                code = step()
            each = spread([(time.perf_counter() - began) / count])
            if code != 0:
                raise SystemExit(f"error: a sweep could not be {what}")
            yield _line(f"a run of a sweep of {count:,}, {what}", each, EACH, "finished runs, one process")


def _none(runs: object) -> None:
    raise AssertionError(f"finished runs were launched: {runs}")


def _finish(runs: list[SweepRun], folder: Path) -> None:
    """Gives every run a record, all with the same numbers."""
    like = importlib.import_module("synthetic").write_run(folder / "elsewhere", "digits_vgg")
    one = store.read_result(like)
    environment = {key: value for key, value in one.environment.items() if key != "data"}
    for run in runs:
        own = replace(one, run_id=run.config.run_id, seed=run.config.seed, environment=environment)
        run.config.directory.mkdir(parents=True)
        shutil.copy(like / store.HISTORY_CSV, run.config.directory)
        (run.config.directory / store.RESULT).write_text(json.dumps(asdict(own)))


def _two_processes(plan: Plan) -> Line:
    """Four runs of some seconds one after the other, and two at a time with a thread each."""
    taken = dict[str, list[float]]()
    for launcher in ("basic", "local"):
        with TemporaryDirectory(dir=plan.folder) as folder:
            words = ["experiment=demo", "setting=digits_densenet", "method=vanilla", "batch=small", "seed=0,1,2,3"]
            words += [f"results={folder}", "track=disabled", "train.device=cpu", "train.epochs=60"]
            command = [sys.executable, str(ROOT / "scripts" / "train.py"), "-m", *words]
            command += [f"hydra/launcher={launcher}", "launch.processes=2"]
            began = time.perf_counter()
            subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
            taken[launcher] = [time.perf_counter() - began]
    what = "four runs, digits DenseNet, two processes of a thread"
    return faster(9, what, "one process of a thread", taken["local"], taken["basic"], target=SPEED_UP)


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
