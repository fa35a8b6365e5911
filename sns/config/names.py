"""Words that become the names of folders: checked where they enter."""

import re
from collections.abc import Sequence

from sns.common.errors import ConfigError

FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}(?<!\.)")


def require_folder(key: str, name: str, reserved: Sequence[str] = ()) -> None:
    """Raises ConfigError unless `name`, the value of `key`, can name a folder on any file system.

    `reserved`: names, in lower case, of folders that hold something else.
    """
    if FOLDER.fullmatch(name) is None:
        shown = repr(name) if len(name) <= 40 else f"{name[:40]!r}... ({len(name)} characters)"
        raise ConfigError(
            f"{key}={shown} cannot name a folder: use up to 64 letters without accents, digits, '_', '-', '+' and '.', "
            "beginning with a letter or a digit and not ending with '.'"
        )
    if name.lower() in reserved:
        raise ConfigError(f"{key}={name} is reserved: choose another name")
