"""The time budget of a sweep (`launch.budget`): which runs may start, when all stop, what was done.

The budget begins with the process that the user started, and that process has exited when it ends.
Runs read the moment to stop from the environment and stop as at any other time limit. This module
decides whether a start is worth while, and ends what cannot stop.
"""

import atexit
import contextlib
import importlib
import json
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from sns.config import units
from sns.config.schema import Config, LaunchConfig
from sns.record import store
from sns.record.state import RunState
from sns.train import stop as signals
from sns.train.progress import PROGRESS
from sns.train.stop import BUDGET_END, RESUMABLE

RESERVE, SHARE = 30.0, 0.06  # for the last checkpoints and the exit: at most seconds, at most a share of the budget
FRESH = 0.5  # share of the budget: with so much left any run may start, and a run that had so much should save
EXIT = 0.3  # of the seconds that imports took: what a process needs to end, more on a busy machine
SHOWN = 3  # runs that a line names


def reserve(seconds: float) -> float:
    """Of a budget of `seconds`: those at its end in which nothing trains."""
    return min(RESERVE, SHARE * seconds)


def announce(launch: LaunchConfig) -> None:
    """Puts the moment to stop into the environment of this process and of those that it starts.

    A moment that is already there stays. Call this after all imports: what they took tells how long
    a process takes to end.
    """
    if launch.budget is not None:
        seconds, imports = units.seconds(launch.budget), time.monotonic() - signals.STARTED
        os.environ.setdefault(BUDGET_END, str(signals.STARTED + seconds - reserve(seconds) - EXIT * imports))


@dataclass(frozen=True)
class Stretch:
    """Seconds that a run needs to its first update, and the longest between two moments at which it
    can stop."""

    start: float
    longest: float


class TimeBudget:
    """The time budget of the runs of one sweep."""

    def __init__(self, configs: Sequence[Config], launch: LaunchConfig) -> None:
        """`launch`: the section that sets the budget."""
        assert launch.budget is not None
        importlib.import_module("pandas")  # the report needs it: import it before time is short
        announce(launch)
        self.name, self.end = launch.budget, float(os.environ[BUDGET_END])
        self.imports = time.monotonic() - signals.STARTED  # seconds that this process took to get here
        self.configs = {config.run_id: config for config in configs}
        self.before = {run_id: _saved(_progress(config)) for run_id, config in self.configs.items()}
        self.finished_before = {name for name, config in self.configs.items() if store.is_finished(config.directory)}
        self.skipped: list[str] = []

    def admits(self, run_id: str, own_process: bool) -> bool:
        """Whether the run would start to train and reach a checkpoint before the budget ends; to be
        asked right before each start.

        It needs twice the start-up that was last measured (the second time to be worth it) and its
        longest stretch that cannot be stopped; in a process of its own also the imports. The
        measurements are those of the run itself, else of the most similar runs. With half of the
        budget left any run may start: a later budget will hardly be better.
        """
        left, whole = self.end - time.monotonic(), self.end - signals.STARTED - self.imports
        needed = FRESH * whole if whole > 0 else math.inf
        stretch = self._stretch(self.configs[run_id])
        if stretch is not None:
            imports = self.imports if own_process else 0.0
            needed = min(needed, 2 * stretch.start + imports + stretch.longest)
        if left < needed:
            self.skipped.append(run_id)
        return left >= needed

    def _stretch(self, config: Config) -> Stretch | None:
        """The longest stretches measured of the run itself, else of its method and batch, else of
        its batch, else of its setting, else of any run."""

        def likeness(other: Config) -> int:
            same = [
                other.setting == config.setting,
                other.batch.regime == config.batch.regime,
                other.method.name == config.method.name,
                other.run_id == config.run_id,
            ]
            return next((i for i, equal in enumerate(same) if not equal), len(same))

        measured: dict[int, list[Stretch]] = {}
        for other in self.configs.values():
            progress = _progress(other)
            if "start" in progress and "longest" in progress:
                measured.setdefault(likeness(other), []).append(Stretch(progress["start"], progress["longest"]))
        nearest = measured.get(max(measured, default=0), [])
        return Stretch(max(s.start for s in nearest), max(s.longest for s in nearest)) if nearest else None

    def report(self, states: Mapping[str, RunState]) -> list[str]:
        """What was done within the budget, in lines; `states` by run_id."""
        lines: dict[str, list[str]] = {"finished": [], "advanced": []}
        for run_id in [name for name in self.configs if name not in self.finished_before]:
            progress, before = _progress(self.configs[run_id]), self.before[run_id]
            what = "finished" if states[run_id].name in ("done", "diverged") else "advanced"
            if what == "finished" or _saved(progress) > before:
                total = progress.get("total", "?")
                lines[what].append(f"  {what} {run_id}: update {before} to {_saved(progress)} of {total}")
        left = [run_id for run_id, state in states.items() if state.pending]
        used = time.monotonic() - signals.STARTED
        head = f"time budget of {self.name}: {used:.0f} s used ({self.imports:.0f} to start), " + ", ".join(
            f"{len(done)} {what}" for what, done in lines.items()
        )
        tail = f"{len(left)} left for the next budget" + (f": {_some(left)}" if left else "")
        late = len(set(self.skipped) & set(left))
        tail += f"; too little time was left to start {late} of them" if late else ""
        return [head, *lines["finished"], *lines["advanced"], tail]


def had_its_share(launch: LaunchConfig, seconds: float) -> bool:
    """Whether a run that trained for `seconds` had enough of the budget to reach a checkpoint."""
    return launch.budget is None or seconds >= FRESH * units.seconds(launch.budget)


@contextlib.contextmanager
def end_in_time(launch: LaunchConfig, note: Callable[[], str]) -> Iterator[None]:
    """Within the context this process is ended, if need be, a little before its time budget ends.

    For work that cannot be stopped and takes longer than any stretch that was measured. Checkpoints
    are complete at any instant. `note` writes down the state of the run and returns it in a line;
    with several runs in the process, that of each.
    """
    if launch.budget is None or BUDGET_END not in os.environ:
        yield
        return
    last = float(os.environ[BUDGET_END]) + 0.6 * reserve(units.seconds(launch.budget))
    timer = threading.Timer(max(0.0, last - time.monotonic()), _cut_off)
    timer.daemon = True
    _notes.append(note)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        _notes.remove(note)


_notes: list[Callable[[], str]] = []  # of the runs that this process trains
_ending = threading.Lock()


def _cut_off() -> None:
    with _ending:  # by the first timer of several
        try:
            for note in list(_notes):
                print(note(), file=sys.stderr, flush=True)
            sys.stdout.flush()
        finally:
            os._exit(RESUMABLE)


def leave(code: int) -> NoReturn:
    """Ends the process; within a time budget without the interpreter's own clean-up, which takes
    seconds on a busy machine."""
    if BUDGET_END not in os.environ:
        sys.exit(code)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _progress(config: Config) -> dict[str, float]:
    """progress.json as the last process of this run wrote it; {} where it cannot be read."""
    try:
        content = json.loads((Path(config.directory) / PROGRESS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {k: v for k, v in content.items() if isinstance(v, int | float)} if isinstance(content, dict) else {}


def _saved(progress: Mapping[str, float]) -> int:
    """The update of the newest checkpoint."""
    return int(progress.get("saved", 0))


def _some(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
