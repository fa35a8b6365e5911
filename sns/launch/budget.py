"""A grid in a box of wall-clock time (`launch.budget`): what may start in it, when everything
leaves, what it did.

The box begins with the process that the user started and is over when that has exited. Runs learn
of its end through the environment and stop as at any other time limit; what is asked here is only
whether a start is worth while.
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

from sns.config import units as words
from sns.config.schema import Config, LaunchConfig
from sns.record import store
from sns.train import stop as signals
from sns.train.progress import PROGRESS
from sns.train.stop import BOX_END, RESUMABLE

RESERVE, SHARE = 30.0, 0.06  # seconds kept for the last checkpoints and the way out, at most, and of the box
FRESH = 0.5  # of the box: with so much left any run may start, and it is too small for one that gets nowhere in it
EXIT = 0.3  # of the time that importing took here: what the processes need to end, the more the busier the machine
SHOWN = 3  # runs that a line names


def reserve(seconds: float) -> float:
    """Of a box of `seconds`: those in which nothing trains any more."""
    return min(RESERVE, SHARE * seconds)


def announce(launch: LaunchConfig) -> None:
    """Tells the runs of this process, and of those that it starts, when to leave; a box around this
    one stays.

    To be called when all is imported: what that took here says how long a process takes to end.
    """
    if launch.budget is not None:
        seconds, imports = words.seconds(launch.budget), time.monotonic() - signals.STARTED
        os.environ.setdefault(BOX_END, str(signals.STARTED + seconds - reserve(seconds) - EXIT * imports))


@dataclass(frozen=True)
class Pace:
    """Seconds that a run needed to its first update, and the longest between two moments at which
    it could stop."""

    start: float
    longest: float


class Box:
    """One box over the runs of a grid."""

    def __init__(self, configs: Sequence[Config], launch: LaunchConfig) -> None:
        """`launch`: whose budget it is."""
        assert launch.budget is not None
        importlib.import_module("pandas")  # reads the records of what ends in the box: not when time is short
        announce(launch)
        self.name, self.end = launch.budget, float(os.environ[BOX_END])
        self.imports = time.monotonic() - signals.STARTED  # seconds that this process took to get here
        self.configs = {config.run_id: config for config in configs}
        self.before = {run_id: _step(_progress(config)) for run_id, config in self.configs.items()}
        self.over_before = {run_id for run_id, config in self.configs.items() if store.is_finished(config.directory)}
        self.skipped: list[str] = []

    def admits(self, run_id: str, own_process: bool) -> bool:
        """Whether the run would get to work, and to a checkpoint, before the box ends; asked right
        before each start.

        It needs what a start took when it was last seen (of this run, else of the nearest kin), the
        same again to be worth it, and the longest stretch that cannot be stopped; in a process of
        its own also what this one took to get here. With half of the box still to come any run may
        start, of which nothing is known, or which needs more: a later box will hardly be better.
        """
        left, whole = self.end - time.monotonic(), self.end - signals.STARTED - self.imports
        needed = FRESH * whole if whole > 0 else math.inf
        pace = self._pace(self.configs[run_id])
        if pace is not None:
            imports = self.imports if own_process else 0.0
            needed = min(needed, 2 * pace.start + imports + pace.longest)
        if left < needed:
            self.skipped.append(run_id)
        return left >= needed

    def _pace(self, config: Config) -> Pace | None:
        """The slowest pace seen of the run itself, else of its method and batch, its batch, its
        setting, of any."""

        def likeness(other: Config) -> int:
            same = [
                other.setting == config.setting,
                other.batch.regime == config.batch.regime,
                other.method.name == config.method.name,
                other.run_id == config.run_id,
            ]
            return next((i for i, equal in enumerate(same) if not equal), len(same))

        known: dict[int, list[Pace]] = {}
        for other in self.configs.values():
            seen = _progress(other)
            if "start" in seen and "longest" in seen:
                known.setdefault(likeness(other), []).append(Pace(seen["start"], seen["longest"]))
        nearest = known.get(max(known, default=0), [])
        return Pace(max(p.start for p in nearest), max(p.longest for p in nearest)) if nearest else None

    def report(self, states: Mapping[str, str], over: Sequence[str], bad: Sequence[str]) -> list[str]:
        """What the box did, in lines; `states` by run_id, of which `over` are final and `bad` wait
        for the user."""
        lines: dict[str, list[str]] = {"finished": [], "advanced": []}
        for run_id in [name for name in self.configs if name not in self.over_before]:
            seen, before = _progress(self.configs[run_id]), self.before[run_id]
            what = "finished" if states[run_id] in over else "advanced"
            if what == "finished" or _step(seen) > before:
                lines[what].append(f"  {what} {run_id}: update {before} to {_step(seen)} of {seen.get('total', '?')}")
        left = [run_id for run_id, state in states.items() if state not in (*over, *bad)]
        used = time.monotonic() - signals.STARTED
        head = f"box of {self.name}: {used:.0f} s used ({self.imports:.0f} to start), " + ", ".join(
            f"{len(made)} {what}" for what, made in lines.items()
        )
        tail = f"{len(left)} left for the next box" + (f": {_some(left)}" if left else "")
        late = len(set(self.skipped) & set(left))
        tail += f"; too little time was left to start {late} of them" if late else ""
        return [head, *lines["finished"], *lines["advanced"], tail]


def had_its_share(launch: LaunchConfig, seconds: float) -> bool:
    """Whether a run that trained for `seconds` had so much of the box that it should have got
    somewhere."""
    return launch.budget is None or seconds >= FRESH * words.seconds(launch.budget)


@contextlib.contextmanager
def backstop(launch: LaunchConfig, note: Callable[[], str]) -> Iterator[None]:
    """Within the context this process ends, if it must, a little before its box does, whatever it
    is at.

    For work that cannot be stopped and is longer than anything seen of the run. Checkpoints are
    whole at any instant. `note` writes down what became of the run and returns it in a line.
    """
    if launch.budget is None or BOX_END not in os.environ:
        yield
        return
    last = float(os.environ[BOX_END]) + 0.6 * reserve(words.seconds(launch.budget))
    timer = threading.Timer(max(0.0, last - time.monotonic()), _cut_off, (note,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _cut_off(note: Callable[[], str]) -> None:
    try:
        print(note(), file=sys.stderr, flush=True)
        sys.stdout.flush()
    finally:
        os._exit(RESUMABLE)


def leave(code: int) -> NoReturn:
    """Ends the process; in a box of time without taking the interpreter apart, which costs seconds
    where it is busy."""
    if BOX_END not in os.environ:
        sys.exit(code)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _progress(config: Config) -> dict[str, float]:
    """What the last process at this run wrote down of its pace; {} where there is nothing to be
    read."""
    try:
        content = json.loads((Path(config.directory) / PROGRESS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {k: v for k, v in content.items() if isinstance(v, int | float)} if isinstance(content, dict) else {}


def _step(progress: Mapping[str, float]) -> int:
    """The update of the newest checkpoint."""
    return int(progress.get("saved", 0))


def _some(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
