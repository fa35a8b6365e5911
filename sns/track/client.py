"""The run's side of tracking: one short line down a pipe at each evaluation, without waiting.

The other end is `sns.track.mirror`, a process that reads the run directory and may outlive the run.
Nothing here raises.
"""

import atexit
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sns.config.schema import Config, TrackConfig
from sns.track.credentials import choose_mode

PATIENCE = {True: 5.0, False: 0.5}  # seconds to wait for the mirror at the end: in a Slurm job, which kills it; else
NAME = "Weights & Biases"


class Mirror:
    """A mirror process. It shows one run at a time; runs that are trained one by one share it."""

    COMMAND = (sys.executable, "-P", "-m", "sns.track.mirror")

    def __init__(self) -> None:
        package = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
        self.owner, self.busy = os.getpid(), False
        self.child = subprocess.Popen(
            self.COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if os.environ.get("SNS_DEBUG") else subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the run
            env=os.environ | {"PYTHONPATH": path},
        )
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.input, self.output = self.child.stdin, self.child.stdout
        for pipe in (self.input, self.output):
            os.set_blocking(pipe.fileno(), False)

    def send(self, message: dict[str, Any]) -> bool:
        """Whether the message was sent; False where the mirror has ended or does not read."""
        if os.getpid() != self.owner:
            return True  # a fork, which has no run of its own
        data = json.dumps(message).encode() + b"\n"
        try:
            return os.write(self.input.fileno(), data) == len(data)
        except (OSError, ValueError):
            return False

    def notices(self) -> list[str]:
        """The mirror's lines for the user since the last call."""
        try:
            return os.read(self.output.fileno(), 1 << 16).decode(errors="replace").splitlines()
        except (OSError, ValueError):
            return []

    def close(self, patience: float) -> bool:
        """Lets the mirror finish by itself; whether it did so within `patience` seconds."""
        if os.getpid() != self.owner:
            return True
        with contextlib.suppress(OSError):
            self.input.close()
        try:
            self.child.wait(patience)
        except subprocess.TimeoutExpired:
            self.child.returncode = 0  # it continues alone
            return False
        return True


_mirrors: list[Mirror] = []  # of this process: one, or one for each run that it trains in turns
_printed: set[str] = set()  # lines that this process prints only once


def _free_mirror() -> Mirror:
    """A mirror that shows no other run now; a new process if there is none."""
    if not _mirrors:
        atexit.register(close_mirrors)
    _mirrors[:] = [mirror for mirror in _mirrors if mirror.owner == os.getpid() and mirror.child.poll() is None]
    free = next((mirror for mirror in _mirrors if not mirror.busy), None)
    if free is None:
        free = Mirror()
        _mirrors.append(free)
    free.busy = True
    return free


def close_mirrors(patience: float | None = None) -> None:
    """At the end of the process: waits `patience` seconds; then the mirrors continue alone."""
    if patience is None:
        patience = PATIENCE["SLURM_JOB_ID" in os.environ]
    end = time.monotonic() + patience
    closing, _mirrors[:] = [mirror for mirror in _mirrors if mirror.owner == os.getpid()], []
    for mirror in closing:
        done = mirror.close(max(0.0, end - time.monotonic()))
        for line in mirror.notices():
            print(line, file=sys.stderr)
        if not done:
            print(f"{NAME}: still being written in the background (process {mirror.child.pid})", file=sys.stderr)


def open_message(directory: Path, rows: int, mode: str, folder: Path, track: TrackConfig) -> dict[str, Any]:
    """Opens a run: `rows` rows in its history.csv, W&B's folder below `folder`."""
    return {
        "do": "open",
        "directory": str(directory.resolve()),
        "rows": rows,
        "mode": mode,
        "folder": str(folder.expanduser().resolve()),
        "project": track.project,
        "entity": track.entity,
        "artifacts": track.artifacts,
        "trainer": os.getpid(),
    }


class Tracker:
    """Within the context, new rows of history.csv appear in Weights & Biases.

    A problem is reported once through `say`; the run is not affected otherwise.
    """

    def __init__(self, config: Config, history: Sequence[object], say: Callable[[str], None], here: bool) -> None:
        """`here`: False on all but the first of a run's processes, which do not track."""
        self.config, self.history, self.say = config, history, say
        self.mirror: Mirror | None = None  # None once it has failed
        self.taken: Mirror | None = None
        self.mode, self.reason = choose_mode(config.track) if here else ("disabled", "")
        self.here = here

    def __enter__(self) -> Self:
        track, folder = self.config.track, self.config.track.dir or self.config.results
        if self.here:
            where = "" if self.mode == "disabled" else f" below {Path(folder).expanduser() / 'wandb'}"
            self._once(f"{NAME}: {self.mode}{where} ({self.reason})")
        if self.mode == "disabled":
            return self
        message = open_message(self.config.directory, len(self.history), self.mode, Path(folder), track)
        try:
            self.mirror = self.taken = _free_mirror()
        except OSError as error:
            self.say(f"{NAME}: cannot be started ({error.strerror}); the record is not affected")
            return self
        self._send(message)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._send({"do": "close", "rows": len(self.history), "finished": kind is None})
        if self.taken is not None:
            self.taken.busy = False

    def update(self) -> None:
        """Call it after history.csv has a new row."""
        self._send({"do": "rows", "rows": len(self.history)})

    def _send(self, message: dict[str, Any]) -> None:
        if self.mirror is None:
            return
        sent = self.mirror.send(message)
        notices = self.mirror.notices()
        for line in notices:
            self.say(line)
        if not sent:
            self.mirror = None
            if not notices:
                self.say(
                    f"{NAME}: the tracking process has ended and no longer shows this run; its record is not affected"
                )

    def _once(self, line: str) -> None:
        if line not in _printed:
            _printed.add(line)
            self.say(line)
