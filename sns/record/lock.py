"""One process a run directory: on one machine, across machines, and whatever became of the owner
before.

Two means, because neither is enough. A flock ends with its process, but not every shared file
system carries it from one machine to another. A claim, a small file `.claim.N` that says who owns
the directory, goes everywhere; whether its owner lives is known on the owner's own machine by
process id and start time, elsewhere by a heartbeat: the file is touched every `BEAT` seconds, and
`STALE` seconds without a beat mean death.

Claims are numbered. A process may only create the one after the highest, and only where that one's
owner is dead or has released it; creation is exclusive on every file system, so one process wins
each number.
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

BEAT, STALE = 30.0, 600.0  # seconds
NO_FLOCK = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


@dataclass(frozen=True)
class Owner:
    """Who holds, or held, a run directory."""

    host: str
    pid: int
    began: str  # start time of the process in clock ticks since boot: process ids are used again
    kernel: str  # boot id and process-id namespace: where `pid` means something
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
    """Start time of a live process, empty where the system does not tell; None for one that is gone
    or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # a name may hold spaces
    except OSError:
        return None if Path("/proc/self/stat").exists() or not _answers(pid) else ""
    return None if fields[0] in "ZX" else fields[19]


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _claims(directory: Path) -> list[Path]:
    """The claims, lowest number first."""
    found = [path for path in directory.glob(".claim.*") if path.suffix[1:].isdigit()]
    return sorted(found, key=lambda path: int(path.suffix[1:]))


def _alive(claim: Path, now: float) -> Owner | None:
    """The owner if it holds the claim and lives, else None; `now` by the clock that stamps the
    file's mtime."""
    try:
        beat = claim.stat().st_mtime
        owner = Owner(**json.loads(claim.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):  # being written this instant, or never finished
        return UNKNOWN if now - beat < BEAT else None
    if owner.released:
        return None
    if owner.kernel == _kernel():
        return owner if _began(owner.pid) == owner.began else None
    return owner if now - beat < STALE else None


def holder(directory: Path) -> Owner | None:
    """The live process that holds the directory, if there is one. Reads only."""
    claims = _claims(directory)
    return _alive(claims[-1], time.time()) if claims else None


def held(directory: Path) -> bool:
    """Whether a live process holds the directory. Reads only."""
    return holder(directory) is not None


class RunLock:
    """Holds the directory; UserError if another live process does. Ends with the process, however
    it ends."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.lost: str | None = None  # why it is no longer ours, once it is not
        self._over = threading.Event()
        self._last = time.monotonic()  # when this process last said that it lives

    def __enter__(self) -> "RunLock":
        self._file: TextIO = (self.directory / ".lock").open("w")
        try:
            flock = self._flock()
            self.claim, self.me = self._take(flock)
        except BaseException:
            self._file.close()
            raise
        threading.Thread(target=self._beat, daemon=True).start()
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
            owner = _alive(claims[-1], draft.stat().st_mtime) if claims else None  # one clock for both: the server's
            if owner is not None and not (flock and owner.flock and _boot(owner) == _boot(me)):
                raise self._refusal(owner)
            claim = self.directory / f".claim.{int(claims[-1].suffix[1:]) + 1 if claims else 1}"
            if not _create(claim, draft) or _claims(self.directory)[-1:] != [claim]:
                raise self._refusal(holder(self.directory))
        finally:
            draft.unlink(missing_ok=True)
        for older in claims[:-1]:  # the last one stays for those who are reading the folder now
            older.unlink(missing_ok=True)
        return claim, me

    def _beat(self) -> None:
        while not self._over.wait(BEAT):
            self.beat()

    def beat(self) -> None:
        """Tells other machines that this process lives, and learns whether one took the directory
        over."""
        try:
            newest = _claims(self.directory)[-1:]
            if newest and newest != [self.claim]:
                who = _alive(newest[0], time.time()) or "another process"
                self.lost = f"{self.directory} was taken over by {who} while this process gave no sign of life"
            os.utime(self.claim)
            self._last = time.monotonic()
        except OSError:
            pass  # a file system that is away for a while: whoever writes next will say so

    def check(self) -> None:
        """UserError if the directory is no longer ours, so that nothing is written over another's
        work."""
        if time.monotonic() - self._last > 3 * BEAT:  # stopped for a while, say: look before anything is written
            self.beat()
        if self.lost is not None:
            raise UserError(f"{self.lost}: this one ends here")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        try:
            if self.lost is None and os.getpid() == self.me.pid:  # a fork that ends here gives nothing away
                released = self.claim.with_name(f"{self.claim.name}.{os.getpid()}.tmp")
                released.write_text(json.dumps(asdict(self.me) | {"released": True}))
                released.replace(self.claim)
        except OSError:
            pass  # then the next one finds a dead owner
        self._file.close()


def _boot(owner: Owner) -> str:
    return owner.kernel.split()[0]


def _create(claim: Path, draft: Path) -> bool:
    """Makes `claim` with the content of `draft`, whole at once; False if another process was
    first."""
    try:
        os.link(draft, claim)
    except FileExistsError:
        return draft.stat().st_nlink == 2  # ours after all: NFS may answer a repeated request
    except OSError:  # no hard links here
        try:
            with claim.open("x") as file:
                file.write(draft.read_text())
        except FileExistsError:
            return False
    return True
