"""Being asked to stop: a handler that only takes note, so that a step always ends whole."""

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self

RESUMABLE = 75  # exit code, EX_TEMPFAIL of sysexits: the same command goes on where this one stopped


class Interrupted(Exception):  # noqa: N818  not an error: the run is saved
    """The run stopped early with its checkpoint on disk; the same command resumes it."""


class StopSignal:
    """Within the context SIGINT, SIGTERM and SIGUSR2 set `received`; a second SIGINT interrupts at once.

    Forks inherit the handler and ignore it: only the process that entered takes note.
    """

    NAMES = ("SIGINT", "SIGTERM", "SIGUSR2")

    def __init__(self) -> None:
        self.received: str | None = None
        self._pid = os.getpid()
        self._before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self  # only the main thread may set handlers
        for name in self.NAMES:
            number = getattr(signal, name)
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            return
        if number == signal.SIGINT and self.received == "SIGINT":
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name
