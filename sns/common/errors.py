"""Errors that a user can act on: each message is one sentence that names the thing, the cause and
the fix."""


class UserError(Exception):
    """Anything the user can put right; scripts print its message without a stack trace and exit
    non-zero."""


class ConfigError(UserError):
    """An unknown key, a wrong type or an impossible combination in the configuration."""


class DataError(UserError):
    """A missing, damaged or unsuitable data archive."""


class RecordError(UserError):
    """A run directory that cannot be read: damaged, partial or of another schema."""


def first_line(error: BaseException) -> str:
    """The message of `error` on one line without a full stop, its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(" .") if lines else type(error).__name__
