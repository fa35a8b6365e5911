"""Errors that a user can fix. A message is one sentence: the thing, the cause and the fix."""

from collections.abc import Iterable


class UserError(Exception):
    """An error that the user can fix. Scripts print its message without a trace and exit with 1."""


class ConfigError(UserError):
    """An unknown key, a wrong type or an impossible combination in the configuration."""


class DataError(UserError):
    """A missing, damaged or unsuitable data archive."""


class RecordError(UserError):
    """A run directory that cannot be read: damaged, partial or of another schema."""


class FigureError(UserError):
    """A bug in the code of one figure: the other figures and the page do without it."""


def file_error(error: OSError) -> str:
    """What a file's error means for the user, in one sentence."""
    if error.filename is None:
        return f"{first_line(error)}: repeat the command"
    fixes: dict[type[OSError], str] = {
        PermissionError: "make it usable for this user",
        FileNotFoundError: "check the path",
        IsADirectoryError: "name a file",
        NotADirectoryError: "a part of the path is a file: name another folder",
    }
    fix = fixes.get(type(error), "make room or name another folder")
    return f"{error.filename} cannot be used ({error.strerror}): {fix}"


def first_line(error: BaseException) -> str:
    """The first line of an error's message without a full stop; its type if there is no message."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(" .") if lines else type(error).__name__


def in_one_line(words: Iterable[str]) -> str:
    """`words` with a space between two, a line break inside one as \\n."""
    return " ".join(words).replace("\r", "\\r").replace("\n", "\\n")
