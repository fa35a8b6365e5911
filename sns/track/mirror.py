"""The process that shows a run directory in Weights & Biases: `python -m sns.track.mirror`.

It reads one JSON message a line from standard input: `open` a run directory, the number of valid
`rows` of history.csv, `close`. Every message states the whole state, so that a lost one does no
harm. Each opening logs the history from its first row, because offline data of W&B neither survive
a kill nor resume. Standard output is for the user. If the input ends without `close`, the run was
killed; its measurements are written all the same.
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

from sns.common.command import safe_streams
from sns.common.errors import first_line
from sns.track.client import NAME
from sns.track.credentials import connection_fault, server_address
from sns.track.wandb_run import Unreachable, WandbRun

LIMITS = {"open": 120, "rows": 60, "close": 300}  # seconds for one message; then W&B counts as hung
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)  # they are for the run


class Hung(Exception):  # noqa: N818
    """W&B did not return in time."""


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
        """Raises Hung, or anything that W&B raises."""
        with limit(LIMITS[message["do"]]):
            if message["do"] == "open":
                self.end(None, finished=False)
                self.open(message)
            elif self.run is not None and message["do"] == "rows":
                self.run.log(message["rows"])
            elif message["do"] == "close":
                self.end(message["rows"], message["finished"])

    def open(self, message: dict[str, Any]) -> None:
        """Opens the run; offline where the server does not answer."""
        mode, server, self.folder = message["mode"], server_address(), Path(message["folder"]) / "wandb"
        fault = connection_fault(server) if mode == "online" else None
        try:
            if fault is not None:
                raise Unreachable(fault)
            self.run = WandbRun(message, mode)
        except Unreachable as error:
            self.say(f"{NAME}: {server} cannot be reached ({first_line(error)}): offline instead; make sync uploads")
            self.run = WandbRun(message, "offline")
        self.run.log(message["rows"])

    def end(self, rows: int | None, finished: bool) -> None:
        """Closes the run in W&B; `finished`: its record is complete."""
        run, self.run = self.run, None
        if run is not None:
            if rows is not None:
                run.log(rows)
            run.finish(finished)

    def say(self, line: str) -> None:
        """Prints a line for the user, if the run still reads, and appends it to mirror.log."""
        print(line, flush=True)
        with contextlib.suppress(OSError):
            if self.folder is not None:
                with (self.folder / "mirror.log").open("a", encoding="utf-8", errors="backslashreplace") as log:
                    log.write(line + "\n")


def follow(messages: TextIO) -> int:
    """Acts on all messages; 1 where W&B failed."""
    follower, name = Follower(), "?"
    try:
        for line in messages:
            message = json.loads(line)
            if message["do"] == "open":
                name = Path(message["directory"]).name
            follower.act(message)
        with limit(LIMITS["close"]):
            follower.end(None, finished=False)
    except Exception as error:
        if os.environ.get("SNS_DEBUG"):
            raise
        fault = f"{type(error).__name__}: {first_line(error)}"
        follower.say(f"{NAME}: tracking of {name} failed ({fault}); the run and its record are not affected")
        return 1
    return 0


def main() -> None:
    """At the lowest priority; ends at once when done, even if W&B still waits."""
    os.nice(19)
    safe_streams()
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    code = 1
    try:
        code = follow(sys.stdin)
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
