"""Two guards around a run: one process in its directory, and a readable error if the disk fails."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sns.common.errors import UserError
from sns.common.ranks import Ranks
from sns.config.schema import Config
from sns.record.lock import RunLock

DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE}  # of a write, without a name


@contextmanager
def disk_errors(config: Config) -> Iterator[None]:
    """Turns an OSError of a file inside into a UserError that names the file. One of a pipe or of
    the network stays what it is."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno not in DISK:
            raise
        where = error.filename or config.directory
        raise UserError(
            f"{where} cannot be used ({error.strerror}): make room or name another folder by results=..."
        ) from None


@contextmanager
def alone_in(directory: Path, ranks: Ranks) -> Iterator[RunLock | None]:
    """Makes the run directory; the first rank locks it. UserError if another process holds it."""
    directory.mkdir(parents=True, exist_ok=True)
    if not ranks.first:
        yield None
        return
    with RunLock(directory) as lock:
        yield lock
