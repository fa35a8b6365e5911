"""Why a record cannot be used: it is absent, partial, unreadable, damaged or foreign, five things
with five sentences. None advises to delete: what cannot be read may be good."""

from pathlib import Path

from sns.common.errors import RecordError, first_line

AGAIN = "move the run directory elsewhere and train the run again"


def partial(file: Path) -> RecordError:
    """A finished run lacks one of its files."""
    return RecordError(f"{file} is missing, the record is partial: copy it from where the run was trained, or {AGAIN}")


def unreadable(file: Path, error: OSError) -> RecordError:
    """The system does not let this user read a file."""
    fix = "make it readable for this user" if isinstance(error, PermissionError) else "check the disk and its links"
    return RecordError(f"{file} cannot be read ({error.strerror or first_line(error)}), it may be good: {fix}")


def damaged(file: Path, what: str) -> RecordError:
    """A file holds something else than what this project wrote."""
    return RecordError(f"{file} is damaged ({what}): restore it from a copy, or {AGAIN}")
