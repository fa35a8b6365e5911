"""What the user sees while a run trains: a live bar on a terminal, one plain line an evaluation
elsewhere; and, for who watches from outside, progress.json in the run directory.
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
BEAT = 5.0  # seconds between two writings of progress.json at least


class Reporter:
    """Prints to stdout as `mode` says (auto | bar | lines | none) and appends every line to
    train.log in `directory`, if one is given.
    """

    def __init__(
        self, mode: str, directory: Path | None, title: str, total: int, columns: Sequence[Column] = ()
    ) -> None:
        """`columns`: those of a row; the ones with a label are shown."""
        if mode == "auto":
            mode = "bar" if sys.stdout.isatty() else "lines"
        self.mode, self.title, self.total, self.columns = mode, title, total, columns
        self.directory = directory
        self._beaten = -BEAT
        self._seen: dict[str, float] = {}  # of the last evaluation, the pace and the checkpoint
        self.log: TextIO | None = None if directory is None else (directory / LOG).open("a", encoding="utf-8")
        self.bar: Progress | None = None

    @classmethod
    def of(cls, session: "Session") -> Self:
        """As the session's configuration asks; silent on all ranks but the first."""
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
            with contextlib.suppress(OSError):  # of a full disk: the line is lost, the run is not
                self.log.close()

    def pace(self, done: int, start: float, longest: float) -> None:
        """`step`; and, for who plans the time of runs: seconds from the run's beginning to its
        first update, and the longest between two moments at which it can be stopped.
        """
        self._seen |= {"start": start, "longest": longest}
        self.step(done)

    def saved(self, step: int) -> None:
        """A checkpoint of update `step` is on disk."""
        self._seen["saved"] = step
        self._beat(step)

    def step(self, done: int) -> None:
        """Moves the bar to update `done`."""
        if time.monotonic() - self._beaten >= BEAT:
            self._beat(done)
        if self.bar is not None:
            self.bar.update(self.task, completed=done)

    def evaluation(self, row: dict[str, float], examples_per_second: float, seconds_left: float) -> None:
        """Reports one history row, the pace and the time left."""
        values = [f"{c.label} {row[c.name]:.4f}" for c in self.columns if c.label]
        figures = " ".join([*values, f"{examples_per_second:,.0f} examples/s"])
        place = f"epoch {row['epoch']:g} step {row['step']:g}/{self.total}"
        line = f"{self.title} {place} {figures} {clock(seconds_left)} left"
        self._write(line, shown=self.mode == "lines")
        self._seen |= {"epoch": row["epoch"], "seconds_left": seconds_left}
        if time.monotonic() - self._beaten >= BEAT:
            self._beat(int(row["step"]))
        if self.bar is not None:
            self.bar.update(self.task, completed=row["step"], figures=figures)

    def say(self, line: str) -> None:
        """Reports anything else."""
        self._write(f"{self.title} {line}", shown=self.mode != "none")

    def _beat(self, step: int) -> None:
        """Writes progress.json; where it cannot be written the run goes on, since nothing rests on
        it."""
        self._beaten = time.monotonic()
        if self.directory is None:
            return
        aside = self.directory / f".{PROGRESS}.{os.getpid()}.tmp"
        try:
            aside.write_text(json.dumps({"step": step, "total": self.total, "time": time.time(), **self._seen}))
            aside.replace(self.directory / PROGRESS)
        except OSError:
            aside.unlink(missing_ok=True)

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
