"""The attempts at one run, counted in attempts.json: how often it started and how each start ended.

The file stands in the run directory and is no part of the record. The process that trains writes
it. A process that is killed leaves its attempt marked as running; the next launch counts it as a
death (`settle`). `sns.record.state` says what the file means for the state of the run.
"""

import json
import os
import socket
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from sns.common.errors import UserError
from sns.record import lock

FILE = "attempts.json"
ELSEWHERE = 120.0  # seconds until this machine surely sees on a shared disk what another one wrote
LAUNCHER = "SNS_LAUNCHER"  # set by the launchers that start a process for each run
EARLIER = {"new": "to do", "open": "running", "died": "dead", "over": "finished"}  # names in older files


@dataclass
class Attempts:
    """The attempts at one run so far.

    state: how the last one stands or ended: to do (there was none) | running | stopped (it saved) |
    refused (an error that the user can fix) | failed | dead (its process was killed) | finished.
    """

    state: str = "to do"
    begun: int = 0
    stopped: int = 0
    failures: int = 0  # failed or dead in a row, without a new checkpoint in between
    reason: str | None = None  # of the last failure or refusal, on one line
    checkpoint: float | None = None  # when the checkpoint was written that the last failure left
    host: str = ""
    pid: int = 0
    job: str = ""
    started: float = 0.0  # seconds since 1970


def load(directory: Path) -> Attempts:
    """The content of the file; no attempts if it is missing or damaged. No result depends on it."""
    try:
        content = json.loads((directory / FILE).read_text(encoding="utf-8"))
        names = {entry.name for entry in fields(Attempts)}
        attempts = Attempts(**{key: value for key, value in content.items() if key in names})
        return replace(attempts, state=EARLIER.get(attempts.state, attempts.state))
    except (OSError, ValueError, TypeError, AttributeError):
        return Attempts()


def save(directory: Path, attempts: Attempts) -> None:
    """Writes the file atomically; UserError where the folder cannot be written to."""
    temporary = directory / f".{FILE}.{os.getpid()}.tmp"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(asdict(attempts)), encoding="utf-8")
        temporary.replace(directory / FILE)
    except OSError as error:
        raise UserError(
            f"{directory} cannot be used ({error.strerror}): make room or name another folder by results=..."
        ) from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def begin(directory: Path) -> Attempts:
    """Writes down that this process starts to train the run."""
    attempts = replace(current(directory), state="running", host=socket.gethostname(), pid=os.getpid())
    attempts = replace(attempts, begun=attempts.begun + 1, job=job_name(), started=time.time())
    save(directory, attempts)
    return attempts


def end(directory: Path, attempts: Attempts, state: str, reason: str | None = None) -> None:
    """Writes down how the attempt ended, in `attempts` and then in the file."""
    vars(attempts).update(vars(_ended(directory, attempts, state, reason)))
    save(directory, attempts)


def _ended(directory: Path, attempts: Attempts, state: str, reason: str | None) -> Attempts:
    ended = replace(attempts, state=state, reason=reason, stopped=attempts.stopped + (state == "stopped"))
    if state in ("failed", "dead"):
        newest = checkpoint_time(directory)
        ended.failures = attempts.failures + 1 if newest == attempts.checkpoint else 1
        ended.checkpoint = newest
    return ended


def current(directory: Path) -> Attempts:
    """The attempts, where one whose process is gone counts as a death. Reads only."""
    attempts = load(directory)
    if attempts.state != "running" or alive(directory, attempts):
        return attempts
    where = attempts.job or attempts.host
    return _ended(directory, attempts, "dead", f"its process was killed without a message ({where})")


def settle(directory: Path) -> Attempts:
    """`current`, written down: a death is counted once."""
    attempts = current(directory)
    if attempts != load(directory):
        save(directory, attempts)
    return attempts


def alive(directory: Path, attempts: Attempts) -> bool:
    """Whether a process trains this run now, or is about to take its lock."""
    if lock.held(directory):
        return True
    age = time.time() - attempts.started
    if attempts.state != "running" or attempts.pid == os.getpid():
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
