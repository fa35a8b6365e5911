"""One process a run directory, on one machine and across machines, also after a process was killed.

Two locks are needed, because neither is enough. A flock ends with its process, but some shared file
systems do not pass it on to other machines. A claim is a small file `.claim.N` that names the owner
of the directory, and every machine sees it. On the owner's machine, its process id and start time
tell whether the owner is alive. Other machines look at the age of the file: the owner touches it
every `TOUCH_INTERVAL` seconds, and counts as dead after `STALE` seconds without a touch.

Claims are numbered. A process may only create the claim after the highest one, and only where the
owner of that one is dead or has released it. The creation of a file is exclusive on every file
system, so exactly one process gets each number.
"""

import errno
import fcntl
import json
import os
import secrets
import socket
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import TextIO

from sns.common.errors import UserError

TOUCH_INTERVAL, STALE = 30.0, 600.0  # seconds
NO_FLOCK = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


@dataclass(frozen=True)
class Owner:
    """The process that holds, or held, a run directory."""

    host: str
    pid: int
    began: str  # start time of the process in clock ticks since boot, since process ids are reused
    kernel: str  # boot id and process-id namespace, in which `pid` is valid
    flock: bool = False  # whether the owner holds the flock too
    job: str = ""  # the scheduler's job, for readers
    released: bool = False

    def __str__(self) -> str:
        job = f" (job {self.job})" if self.job else ""
        return f"process {self.pid} on {self.host}{job}"


UNKNOWN = Owner("an unknown machine", 0, "", "? ?")


def myself(flock: bool) -> Owner:
    """The calling process."""
    job = os.environ.get("SLURM_JOB_ID", "")
    return Owner(socket.gethostname(), os.getpid(), _began(os.getpid()) or "", _kernel(), flock, job)


def _kernel() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return f"{socket.gethostname()} -"


def _began(pid: int) -> str | None:
    """Start time of a live process, empty if the system does not give it; None for a dead one."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # a name may hold spaces
    except OSError:
        return None if Path("/proc/self/stat").exists() or not _exists(pid) else ""
    return None if fields[0] in "ZX" else fields[19]


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _claims(directory: Path) -> list[Path]:
    """The claims, lowest number first."""
    claims = [path for path in directory.glob(".claim.*") if path.suffix[1:].isdigit()]
    return sorted(claims, key=lambda path: int(path.suffix[1:]))


def _alive(claim: Path, now: float) -> Owner | None:
    """The owner if it is alive and has not released the claim, else None.

    `now` is by the clock that sets the mtime of files.
    """
    try:
        touched = claim.stat().st_mtime
        owner = Owner(**json.loads(claim.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):  # being written now, or its writing was cut off
        return UNKNOWN if now - touched < TOUCH_INTERVAL else None
    if owner.released:
        return None
    if owner.kernel == _kernel():
        return owner if _began(owner.pid) == owner.began else None
    return owner if now - touched < STALE else None


def holder(directory: Path) -> Owner | None:
    """The live process that holds the directory, if there is one. Reads only."""
    claims = _claims(directory)
    return _alive(claims[-1], time.time()) if claims else None


def held(directory: Path) -> bool:
    """Whether a live process holds the directory. Reads only."""
    return holder(directory) is not None


class RunLock:
    """Holds the directory. UserError if another live process does.

    The lock is released when this process ends, in whatever way.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.lost: str | None = None  # why this process no longer holds the directory, if so
        self._released = threading.Event()
        self._last = time.monotonic()  # when this process last touched the claim

    def __enter__(self) -> "RunLock":
        self._file: TextIO = (self.directory / ".lock").open("w")
        try:
            flock = self._flock()
            self.claim, self.me = self._take(flock)
        except BaseException:
            self._file.close()
            raise
        threading.Thread(target=self._keep_touching, daemon=True).start()
        return self

    def _flock(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise self._refusal(holder(self.directory)) from None
        except OSError as error:
            if error.errno not in NO_FLOCK:
                raise
            return False
        return True

    def _refusal(self, owner: Owner | None) -> UserError:
        who = f"another process, {owner}" if owner else "another process"
        return UserError(f"{self.directory} is being trained by {who}: wait for it or stop it")

    def _take(self, flock: bool) -> tuple[Path, Owner]:
        me = myself(flock)
        draft = self.directory / f".claim.{me.host}.{me.pid}.{secrets.token_hex(4)}.tmp"
        draft.write_text(json.dumps(asdict(me)))
        try:
            claims = _claims(self.directory)
            owner = _alive(claims[-1], draft.stat().st_mtime) if claims else None  # one clock: the file server
            if owner is not None and not (flock and owner.flock and _boot(owner) == _boot(me)):
                raise self._refusal(owner)
            claim = self.directory / f".claim.{int(claims[-1].suffix[1:]) + 1 if claims else 1}"
            if not _create(claim, draft) or _claims(self.directory)[-1:] != [claim]:
                raise self._refusal(holder(self.directory))
        finally:
            draft.unlink(missing_ok=True)
        for older in claims[:-1]:  # the last one stays for processes that read the folder now
            older.unlink(missing_ok=True)
        return claim, me

    def _keep_touching(self) -> None:
        while not self._released.wait(TOUCH_INTERVAL):
            self.touch()

    def touch(self) -> None:
        """Shows other machines that this process is alive; notes if one took the directory over."""
        try:
            newest = _claims(self.directory)[-1:]
            if newest and newest != [self.claim]:
                who = _alive(newest[0], time.time()) or "another process"
                self.lost = f"{self.directory} was taken over by {who} while this process did not touch its claim"
            os.utime(self.claim)
            self._last = time.monotonic()
        except OSError:
            pass  # the file system is away for a while: the next write to it reports that

    def check(self) -> None:
        """UserError if this process no longer holds the directory, where another one now writes."""
        if time.monotonic() - self._last > 3 * TOUCH_INTERVAL:  # the process was paused, say
            self.touch()
        if self.lost is not None:
            raise UserError(f"{self.lost}: this one ends here")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._released.set()
        try:
            if self.lost is None and os.getpid() == self.me.pid:  # a forked process releases nothing
                released = self.claim.with_name(f"{self.claim.name}.{os.getpid()}.tmp")
                released.write_text(json.dumps(asdict(self.me) | {"released": True}))
                released.replace(self.claim)
        except OSError:
            pass  # then the next process sees a dead owner
        self._file.close()


def _boot(owner: Owner) -> str:
    return owner.kernel.split()[0]


def _create(claim: Path, draft: Path) -> bool:
    """Creates `claim` with the content of `draft`, atomically; False if another one was first."""
    try:
        os.link(draft, claim)
    except FileExistsError:
        return draft.stat().st_nlink == 2  # 2: this process made it, and NFS answered a repeated request
    except OSError:  # no hard links here
        try:
            with claim.open("x") as file:
                file.write(draft.read_text())
        except FileExistsError:
            return False
    return True
