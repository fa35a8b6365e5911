"""The process beside a run that shows its directory in Weights & Biases: `python -m
sns.track.mirror`.

It reads one JSON message a line from its standard input: `open` a run directory, so many `rows` of
history.csv hold, `close`. Every message states the whole truth, so that a lost one does no harm,
and each opening logs the history from its first row: offline data of W&B neither survives a kill
nor resumes. Its standard output is for the user. Where the input ends without a `close`, the run
was killed; what it measured is written all the same.
"""

import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from sns.common.errors import first_line
from sns.track.client import NAME
from sns.track.credentials import address, unanswered
from sns.track.wandb_run import Unreachable, WandbRun

LIMITS = {"open": 120, "rows": 60, "close": 300}  # seconds for one message, after which W&B counts as hung
DEAF = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)  # meant for the run


class Hung(Exception):  # noqa: N818
    """W&B did not come back in time."""


@contextlib.contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Raises Hung in the main thread if the block takes longer."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise Hung(f"no answer for {seconds:g} seconds")

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


class Follower:
    """Acts on messages; at most one run is open."""

    def __init__(self) -> None:
        self.run: WandbRun | None = None
        self.folder: Path | None = None  # W&B's, where there is a run

    def act(self, message: dict[str, Any]) -> None:
        """Raises whatever W&B raises, and Hung."""
        with limit(LIMITS[message["do"]]):
            if message["do"] == "open":
                self.end(None, over=False)
                self.open(message)
            elif self.run is not None and message["do"] == "rows":
                self.run.log(message["rows"])
            elif message["do"] == "close":
                self.end(message["rows"], message["over"])

    def open(self, message: dict[str, Any]) -> None:
        """Offline where the server does not answer."""
        mode, server, self.folder = message["mode"], address(), Path(message["folder"]) / "wandb"
        fault = unanswered(server) if mode == "online" else None
        try:
            if fault is not None:
                raise Unreachable(fault)
            self.run = WandbRun(message, mode)
        except Unreachable as error:
            self.say(f"{NAME}: {server} cannot be reached ({first_line(error)}): offline instead; make sync uploads")
            self.run = WandbRun(message, "offline")
        self.run.log(message["rows"])

    def end(self, rows: int | None, over: bool) -> None:
        """Closes the run in W&B; `over`: its record is complete."""
        run, self.run = self.run, None
        if run is not None:
            if rows is not None:
                run.log(rows)
            run.finish(over)

    def say(self, line: str) -> None:
        """To the user, if anybody still listens, and to a file for afterwards."""
        with contextlib.suppress(OSError):
            print(line, flush=True)
        with contextlib.suppress(OSError):
            if self.folder is not None:
                with (self.folder / "mirror.log").open("a", encoding="utf-8") as log:
                    log.write(line + "\n")


def follow(messages: TextIO) -> int:
    """Acts on all messages; 1 where W&B failed, and was dropped."""
    follower, name = Follower(), "?"
    try:
        for line in messages:
            message = json.loads(line)
            if message["do"] == "open":
                name = Path(message["directory"]).name
            follower.act(message)
        with limit(LIMITS["close"]):
            follower.end(None, over=False)
    except Exception as error:
        if os.environ.get("SNS_DEBUG"):
            raise
        fault = f"{type(error).__name__}: {first_line(error)}"
        follower.say(f"{NAME}: given up for {name} ({fault}); the run and its record are not affected")
        return 1
    return 0


def main() -> None:
    """Gives way to the run in everything; ends at once when done, whatever W&B still waits for."""
    os.nice(19)
    for number in DEAF:
        signal.signal(number, signal.SIG_IGN)
    code = 1
    try:
        code = follow(sys.stdin)
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
