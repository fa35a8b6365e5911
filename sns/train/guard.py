"""Two guards around a run: one process in its directory, and a readable error if the disk fails."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sns.common.errors import UserError
from sns.common.ranks import Ranks
from sns.config.schema import Config
from sns.record.lock import RunLock


@contextmanager
def disk_errors(config: Config) -> Iterator[None]:
    """Turns an OSError inside into a UserError that names the file."""
    try:
        yield
    except OSError as error:
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
