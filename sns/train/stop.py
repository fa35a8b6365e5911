"""Being asked to stop, by a signal or by the clock: it is only noted, so that a step always ends
whole."""

import os
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import ClassVar, Self

from sns.config.schema import Config

RESUMABLE = 75  # exit code, EX_TEMPFAIL of sysexits: the same command goes on where this one stopped
TIME_LIMIT = "time limit"
BOX_END = "SNS_BOX_END"  # set by sns.launch.budget: when to leave, on the monotonic clock, which processes share
STARTED = time.monotonic()  # of this process, nearly; monotonic throughout, so that a wall clock that jumps is harmless


class Interrupted(Exception):  # noqa: N818  not an error: the run is saved
    """The run stopped early with its checkpoint on disk; the same command resumes it. `cause`: what
    asked for it."""

    def __init__(self, message: str, cause: str = "") -> None:
        super().__init__(message)
        self.cause = cause


class Deadline:
    """The moment by which this process has to be done: `minutes` after its start, where Slurm ends
    the job, or where the box of time ends that a grid is trained in (sns.launch.budget), which has
    set time for the way out aside.
    """

    MARGIN = 60.0  # seconds left for the checkpoint and the way out; less where the whole time is short

    def __init__(self, minutes: float | None = None) -> None:
        self.began = self._last = time.monotonic()
        self._longest = 0.0
        ends = [] if minutes is None else [STARTED + minutes * 60]
        slurm = os.environ.get("SLURM_JOB_END_TIME", "")
        if slurm.isdigit():
            ends.append(self._last + int(slurm) - time.time())  # the only look at the wall clock
        stops = [end - min(self.MARGIN, 0.1 * max(end - STARTED, 0.0)) for end in ends]
        if BOX_END in os.environ:
            stops.append(float(os.environ[BOX_END]))
        self.stop = min(stops, default=None)

    @property
    def longest(self) -> float:
        """Seconds: the longest time yet between two looks, or what `expect` was told if that is
        longer."""
        return self._longest

    def near(self) -> bool:
        """Whether to stop now: the longest time yet between two looks, spent once more, would end
        too late."""
        now = time.monotonic()
        self._longest, self._last = max(self._longest, now - self._last), now
        return self.stop is not None and now + self._longest >= self.stop

    def begin(self, longest: float) -> None:
        """The set-up is over, and will not come again; `longest`: seconds between two looks in
        earlier sessions."""
        self._last, self._longest = time.monotonic(), longest

    def expect(self, seconds: float) -> None:
        """What comes next may take so long."""
        self._longest = max(self._longest, seconds)

    @property
    def left(self) -> float | None:
        """Seconds until the stop; None without one."""
        return None if self.stop is None else self.stop - time.monotonic()


class Handlers(ABC):
    """Within the context the signals NAMES go to `_note`; afterwards to whoever had them before."""

    NAMES: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        self._before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self  # only the main thread may set handlers
        for name in self.NAMES:
            number = getattr(signal, name)
            if self._takes(number):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def _takes(self, number: int) -> bool:
        return True

    @abstractmethod
    def _note(self, number: int, frame: FrameType | None) -> None:
        """Takes a signal."""


class StopSignal(Handlers):
    """Within the context SIGINT, SIGTERM and SIGUSR2 are noted; a second SIGINT interrupts at once.

    Forks inherit the handlers and ignore the signals: only the process that entered takes note. On
    the way out every handler is again what it was.
    """

    NAMES = ("SIGINT", "SIGTERM", "SIGUSR2")

    def __init__(self, minutes: float | None = None) -> None:
        """`minutes`: time limit of this process, None for none but Slurm's."""
        self.received: str | None = None
        self.deadline = Deadline(minutes)
        self._at_once = False
        self._pid = os.getpid()
        super().__init__()

    def asked(self) -> str | None:
        """What asks for an end of this session (SIGTERM, say, or the time limit), or None."""
        if self.received is None and self.deadline.near():
            self.received = TIME_LIMIT
        return self.received

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Within the context a stop raises Interrupted at once: for long work that changes no state
        and is saved piece by piece. Only where the handlers are set, in the main thread.
        """
        if not self._before:
            yield
            return
        ring = signal.signal(signal.SIGALRM, self._ring)
        left = self.deadline.left
        if left is not None:
            signal.setitimer(signal.ITIMER_REAL, max(left, 0.001))
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, ring)

    def _ring(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() == self._pid and self._at_once:
            self._stop(TIME_LIMIT)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            return
        if number == signal.SIGINT and self.received == "SIGINT":
            raise KeyboardInterrupt
        self._stop(signal.Signals(number).name)

    def _stop(self, cause: str) -> None:
        self.received = cause
        if self._at_once:
            self._at_once = False  # one is enough
            raise Interrupted(f"stopped in the last measurements ({cause}); the same command goes on with them", cause)


@contextmanager
def stopping(config: Config) -> Iterator[StopSignal]:
    """Around a run: signals and the time limit are noted; at the end whoever started this process
    has its turn. Raises Interrupted if the run was finished although it was asked to stop, so that
    what would follow does not start."""
    try:
        with StopSignal(config.train.time_limit_minutes) as stop:
            yield stop
        if stop.received is not None:
            raise Interrupted(
                f"{config.run_id} is finished, what was to follow it is not ({stop.received})", stop.received
            )
    except Interrupted as interrupted:
        hand_over(interrupted.cause)
        raise


def hand_over(cause: str) -> None:
    """Lets whoever started this process have its turn, now that the checkpoint is on disk.

    submitit puts a handler on SIGUSR2 that requeues the job and ends the process. It is called for
    that signal and for the time limit, of which it is the early warning; SIGTERM may be a user's
    scancel, which must not come back.
    """
    handler = signal.getsignal(signal.SIGUSR2)
    if cause in ("SIGUSR2", TIME_LIMIT) and callable(handler):
        handler(signal.SIGUSR2, None)
