"""What the user sees while a run trains.

A terminal shows a live bar, any other output one line an evaluation. progress.json in the run
directory serves `make status` and the launchers.
"""

import contextlib
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from sns.record.schema import Column

if TYPE_CHECKING:
    from sns.train.session import Session

LOG = "train.log"
PROGRESS = "progress.json"
WRITE_INTERVAL = 5.0  # seconds between two writes of progress.json, at least


class Reporter:
    """Prints to stdout as `mode` says (auto | bar | lines | none), and logs to train.log.

    train.log is in `directory`; there is no log if it is None.
    """

    def __init__(
        self, mode: str, directory: Path | None, title: str, total: int, columns: Sequence[Column] = ()
    ) -> None:
        """`columns`: those of a history row; the ones with a label are shown."""
        if mode == "auto":
            mode = "bar" if sys.stdout.isatty() else "lines"
        self.mode, self.title, self.total, self.columns = mode, title, total, columns
        self.directory = directory
        self._written_at = -WRITE_INTERVAL
        self._facts: dict[str, float] = {}  # for progress.json: last evaluation, pace, checkpoint
        self.log: TextIO | None = None
        with contextlib.suppress(OSError):
            if directory is not None:
                self.log = (directory / LOG).open("a", encoding="utf-8", errors="backslashreplace")
        self.bar: Progress | None = None

    @classmethod
    def of(cls, session: "Session") -> Self:
        """A reporter as the session's configuration asks; silent on every rank but the first."""
        config = session.config
        title = f"{config.setting} {config.method.name} b{config.batch.size} s{config.seed}"
        shown, where = (config.train.progress, session.directory) if session.ranks.first else ("none", None)
        return cls(shown, where, title, session.total, session.task.columns)

    def __enter__(self) -> Self:
        if self.mode == "bar":
            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[figures]}"))
            self.bar = Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console())
            self.task = self.bar.add_task(self.title, total=self.total, figures="")
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()
        if self.log is not None:
            with contextlib.suppress(OSError):  # on a full disk the line is lost, the run is not
                self.log.close()

    def pace(self, done: int, start: float, longest: float) -> None:
        """`step`, and two times in seconds by which launchers plan a time budget.

        `start`: from the run's beginning to its first update. `longest`: between two moments at
        which the run can be stopped.
        """
        self._facts |= {"start": start, "longest": longest}
        self.step(done)

    def saved(self, step: int) -> None:
        """Notes that a checkpoint of update `step` is on disk."""
        self._facts["saved"] = step
        self._write_progress(step)

    def step(self, done: int) -> None:
        """Moves the bar to update `done`."""
        if time.monotonic() - self._written_at >= WRITE_INTERVAL:
            self._write_progress(done)
        if self.bar is not None:
            self.bar.update(self.task, completed=done)

    def evaluation(self, row: dict[str, float], examples_per_second: float, seconds_left: float) -> None:
        """Reports one history row, the pace and the time left."""
        values = [f"{c.label} {row[c.name]:.4f}" for c in self.columns if c.label]
        figures = " ".join([*values, f"{examples_per_second:,.0f} examples/s"])
        place = f"epoch {row['epoch']:g} step {row['step']:g}/{self.total}"
        line = f"{self.title} {place} {figures} {clock(seconds_left)} left"
        self._write(line, shown=self.mode == "lines")
        self._facts |= {"epoch": row["epoch"], "seconds_left": seconds_left}
        if time.monotonic() - self._written_at >= WRITE_INTERVAL:
            self._write_progress(int(row["step"]))
        if self.bar is not None:
            self.bar.update(self.task, completed=row["step"], figures=figures)

    def say(self, line: str) -> None:
        """Reports any other line."""
        self._write(f"{self.title} {line}", shown=self.mode != "none")

    def _write_progress(self, step: int) -> None:
        """Writes progress.json. If it cannot be written, the run continues without it."""
        self._written_at = time.monotonic()
        if self.directory is None:
            return
        temporary = self.directory / f".{PROGRESS}.{os.getpid()}.tmp"
        try:
            temporary.write_text(json.dumps({"step": step, "total": self.total, "time": time.time(), **self._facts}))
            temporary.replace(self.directory / PROGRESS)
        except OSError:
            temporary.unlink(missing_ok=True)

    def _write(self, line: str, shown: bool) -> None:
        if self.log is not None:
            with contextlib.suppress(OSError):
                self.log.write(line + "\n")
                self.log.flush()
        if shown:
            if self.bar is not None:
                self.bar.console.print(line, highlight=False, markup=False)
            else:
                print(line, flush=True)


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss, or as days and hours from four days on."""
    whole = round(seconds)
    if whole >= 4 * 86400:
        return f"{whole // 86400} d {whole % 86400 // 3600} h"
    return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"
