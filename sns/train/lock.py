"""One process a run directory."""

import fcntl
from pathlib import Path
from types import TracebackType
from typing import Self

from sns.errors import UserError


class RunLock:
    """Holds the directory's lock file; UserError if another live process does. Ends with the process, however it
    ends.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / ".lock"

    def __enter__(self) -> Self:
        self.file = self.path.open("w")
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.file.close()
            raise UserError(f"{self.path.parent} is being trained by another process: wait for it or stop it") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()
