"""Requests to stop, by a signal or by the clock. Training stops between two updates."""

import os
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import ClassVar, Self

RESUMABLE = 75  # exit code, EX_TEMPFAIL of sysexits: the same command resumes where this one stopped
TIME_LIMIT = "time limit"
BUDGET_END = "SNS_BUDGET_END"  # set by sns.launch.budget: when to stop, on the monotonic clock that processes share
STARTED = time.monotonic()  # of this process, nearly. Times are monotonic, since a wall clock may jump


class Interrupted(Exception):  # noqa: N818  not an error: the run is saved
    """The run stopped early, with its checkpoint on disk; the same command resumes it.

    `cause`: the signal or limit that asked for it.
    """

    def __init__(self, message: str, cause: str = "") -> None:
        super().__init__(message)
        self.cause = cause


class Deadline:
    """The time by which this process must have stopped, the earliest of three.

    `minutes` after its start, the end of its Slurm job, and the end of the sweep's time budget
    (sns.launch.budget). Before the first two it leaves MARGIN; the third includes a margin.
    """

    MARGIN = 60.0  # seconds for the checkpoint and the exit; less if the whole time is short

    def __init__(self, minutes: float | None = None) -> None:
        self._last = time.monotonic()
        self._longest = 0.0
        ends = [] if minutes is None else [STARTED + minutes * 60]
        slurm = os.environ.get("SLURM_JOB_END_TIME", "")
        if slurm.isdigit():
            ends.append(self._last + int(slurm) - time.time())  # the only look at the wall clock
        stops = [end - min(self.MARGIN, 0.1 * max(end - STARTED, 0.0)) for end in ends]
        if BUDGET_END in os.environ:
            stops.append(float(os.environ[BUDGET_END]))
        self.stop = min(stops, default=None)

    @property
    def longest(self) -> float:
        """Seconds: the longest between two calls of `near`, of any run, or those of `expect`."""
        return self._longest

    def near(self) -> bool:
        """Whether to stop now, because `longest` seconds more would be too late."""
        now = time.monotonic()
        self._longest, self._last = max(self._longest, now - self._last), now
        return self.stop is not None and now + self._longest >= self.stop

    def begin(self, longest: float) -> float:
        """Starts to time the training of a run; the seconds of its set-up, which do not count.

        `longest`: from its earlier sessions.
        """
        setup = time.monotonic() - self._last
        self._last, self._longest = self._last + setup, max(self._longest, longest)
        return setup

    def expect(self, seconds: float) -> None:
        """Announces that the next piece of work may take `seconds`."""
        self._longest = max(self._longest, seconds)

    @property
    def left(self) -> float | None:
        """Seconds until the stop; None without a limit."""
        return None if self.stop is None else self.stop - time.monotonic()


class Handlers(ABC):
    """Inside the context `_receive` handles the signals NAMES, afterwards the earlier handlers."""

    NAMES: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        self._before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self  # only the main thread may set handlers
        for name in self.NAMES:
            number = getattr(signal, name)
            if self._handles(number):
                self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def _handles(self, number: int) -> bool:
        return True

    @abstractmethod
    def _receive(self, number: int, frame: FrameType | None) -> None:
        """Called with each signal."""


class StopSignal(Handlers):
    """Inside the context the signals NAMES are noted; a second SIGINT interrupts at once.

    A request to stop is one to all runs that the process trains in turns.
    SIGHUP says that the terminal is gone; with nohup it stays ignored. Forked processes inherit the
    handlers and ignore the signals. On exit the earlier handlers are restored.
    """

    NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR2")

    def __init__(self, minutes: float | None = None) -> None:
        """`minutes`: time limit of this process; None for no limit of its own."""
        self.received: str | None = None
        self.deadline = Deadline(minutes)
        self._interrupting = False
        self._pid = os.getpid()
        super().__init__()

    def asked(self) -> str | None:
        """The signal or limit that asks this session to stop, such as SIGTERM, or None."""
        if self.received is None and self.deadline.near():
            self.received = TIME_LIMIT
        return self.received

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """Inside the context a request to stop raises Interrupted immediately.

        It is meant for long work that changes no state and is saved piece by piece. It has no
        effect outside the main thread, which alone receives signals.
        """
        if not self._before:
            yield
            return
        before = signal.signal(signal.SIGALRM, self._receive_alarm)
        left = self.deadline.left
        if left is not None:
            signal.setitimer(signal.ITIMER_REAL, max(left, 0.001))
        self._interrupting = True
        try:
            yield
        finally:
            self._interrupting = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def _handles(self, number: int) -> bool:
        return number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN

    def _receive_alarm(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() == self._pid and self._interrupting:
            self._stop(TIME_LIMIT)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            return
        if number == signal.SIGINT and self.received == "SIGINT":
            raise KeyboardInterrupt
        self._stop(signal.Signals(number).name)

    def _stop(self, cause: str) -> None:
        self.received = cause
        if self._interrupting:
            self._interrupting = False  # a second request must not raise again
            raise Interrupted(f"stopped in the final measurements ({cause}); the same command resumes them", cause)


@contextmanager
def stopping(minutes: float | None, what: str) -> Iterator[StopSignal]:
    """Notes signals and the time limit during runs; after a stop, calls the launcher's handler.

    `minutes` as in StopSignal; `what` names the runs. Raises Interrupted also if they finished
    although they were asked to stop, so that no further run of a sweep starts.
    """
    try:
        with StopSignal(minutes) as stop:
            yield stop
        if stop.received is not None:
            raise Interrupted(f"{what} is finished; runs after it were not started ({stop.received})", stop.received)
    except Interrupted as interrupted:
        call_launcher_handler(interrupted.cause)
        raise


def call_launcher_handler(cause: str) -> None:
    """Calls the SIGUSR2 handler of the program that started this process, after a checkpoint.

    submitit sets a handler that requeues the job and ends the process. It is called for SIGUSR2 and
    for the time limit, both of which mean that the job's time is ending. It is not called for
    SIGTERM, which may be a user's scancel: the job must not be requeued.
    """
    handler = signal.getsignal(signal.SIGUSR2)
    if cause in ("SIGUSR2", TIME_LIMIT) and callable(handler):
        handler(signal.SIGUSR2, None)
