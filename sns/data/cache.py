"""A folder of archives that many runs share: a data set appears in it whole or not at all."""

import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

TIMEOUT = 30.0  # seconds without an answer after which a download fails


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Holds an exclusive lock on the file `path`, which ends with the process.

    Waits for the lock. Yields whether it is held: some file systems have no locks; then several
    processes may fetch the same data set, and `install` still keeps it whole.
    """
    held = False
    with path.open("a") as handle:
        if fcntl is not None:
            with suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_EX)
                held = True
        yield held


@contextmanager
def scratch(root: Path, name: str) -> Iterator[Path]:
    """A temporary folder next to `name`, on the same file system; removed at the end."""
    with tempfile.TemporaryDirectory(dir=root, prefix=f".{name}.", suffix=".tmp", ignore_cleanup_errors=True) as aside:
        yield Path(aside)


def sweep(root: Path, name: str) -> None:
    """Removes the scratch folders of killed processes. Call it only with the lock of `name`."""
    for left in root.glob(f".{name}.*.tmp"):
        shutil.rmtree(left, ignore_errors=True)


def install(ready: Path, place: Path) -> None:
    """Renames the folder `ready` to `place`, unless another process has put one there."""
    try:
        ready.rename(place)
    except OSError:
        if not place.is_dir():
            raise
        shutil.rmtree(ready, ignore_errors=True)


@contextmanager
def download_timeout(seconds: float = TIMEOUT) -> Iterator[None]:
    """Connections fail after `seconds` without an answer; torchvision sets no limit."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
