"""How often a run was begun and how each attempt ended: attempts.json in the run directory, outside
the record.

The process that trains writes it; one that is killed leaves its attempt open, and whoever looks
next counts it as dead. Reading needs no torch, so that a status page starts at once.
"""

import json
import os
import socket
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from sns.common.errors import UserError
from sns.record import lock

FILE = "attempts.json"
ELSEWHERE = 120.0  # seconds until what another machine wrote is surely seen on a shared file system
LAUNCHER = "SNS_LAUNCHER"  # set by the launchers that start a process for each run


@dataclass
class Attempts:
    """What became of the attempts at one run.

    state: new | open | stopped (resumable) | refused (an error the user can mend) | failed | died |
    over.
    """

    state: str = "new"
    begun: int = 0
    stopped: int = 0
    failures: int = 0  # in a row, without a new checkpoint in between
    reason: str | None = None  # of the last failure or refusal, on one line
    checkpoint: float | None = None  # when the checkpoint was written that the last failure left
    host: str = ""
    pid: int = 0
    job: str = ""
    started: float = 0.0  # seconds since 1970


def load(directory: Path) -> Attempts:
    """The attempts so far; none where the file is absent or damaged, since no result rests on
    it."""
    try:
        content = json.loads((directory / FILE).read_text(encoding="utf-8"))
        known = {entry.name for entry in fields(Attempts)}
        return Attempts(**{key: value for key, value in content.items() if key in known})
    except (OSError, ValueError, TypeError, AttributeError):
        return Attempts()


def save(directory: Path, attempts: Attempts) -> None:
    """Writes the file whole or not at all; UserError where the folder takes no file."""
    aside = directory / f".{FILE}.{os.getpid()}.tmp"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        aside.write_text(json.dumps(asdict(attempts)), encoding="utf-8")
        aside.replace(directory / FILE)
    except OSError as error:
        raise UserError(
            f"{directory} cannot be used ({error.strerror}): make room or name another folder by results=..."
        ) from None
    finally:
        aside.unlink(missing_ok=True)


def begin(directory: Path) -> Attempts:
    """Notes that this process trains the run from here on."""
    attempts = settle(directory)
    attempts.state, attempts.begun = "open", attempts.begun + 1
    attempts.host, attempts.pid, attempts.job = socket.gethostname(), os.getpid(), job_name()
    attempts.started = time.time()
    save(directory, attempts)
    return attempts


def end(directory: Path, attempts: Attempts, state: str, reason: str | None = None) -> None:
    """Notes how the attempt ended."""
    if state in ("failed", "died"):
        mark = checkpoint_time(directory)
        attempts.failures = 1 if mark != attempts.checkpoint else attempts.failures + 1
        attempts.checkpoint = mark
    attempts.stopped += state == "stopped"
    attempts.state, attempts.reason = state, reason
    save(directory, attempts)


def settle(directory: Path) -> Attempts:
    """The attempts, an open one whose process is gone counted as a death."""
    attempts = load(directory)
    if attempts.state == "open" and not alive(directory, attempts):
        end(directory, attempts, "died", f"its process died without a word ({attempts.job or attempts.host})")
    return attempts


def alive(directory: Path, attempts: Attempts) -> bool:
    """Whether a process is at this run now, or was about to take its lock a moment ago."""
    if lock.held(directory):
        return True
    age = time.time() - attempts.started
    if attempts.state != "open" or attempts.pid == os.getpid():
        return False
    if attempts.host != socket.gethostname():
        return age < ELSEWHERE
    return age < 5 and Path(f"/proc/{attempts.pid}").exists()


def job_name() -> str:
    """The Slurm job of this process, as `squeue` writes it, or an empty text."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array else os.environ.get("SLURM_JOB_ID", "")


def checkpoint_time(directory: Path) -> float | None:
    """When the newest checkpoint was written, by the file server's clock; None without one."""
    return max((path.stat().st_mtime for path in directory.glob("checkpoint*.pt")), default=None)
