"""A mistake in the command line, explained in one sentence with the nearest word that exists."""

import re
from pathlib import Path

from hydra.errors import MissingConfigException, OverrideParseException

from sns.common.errors import first_line
from sns.config.compose import nearest, unknown_key
from sns.train.configure import registered_options

KEY = re.compile(r"Could not override '\+*([^'@]+)'|Could not append to config\. An item is already at '([^']+)'")


def explain(error: Exception, configs: Path) -> str:
    """What is wrong with the command line, in one sentence. `configs`: the folder of its groups."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, name = error.missing_cfg_file.rpartition("/")
        return f"there is no {group}={name}{nearest(name, error.options)}; choose one of {', '.join(error.options)}"
    if isinstance(error, OverrideParseException):
        quoted = "" if str(error.override).isascii() else """; write other than ASCII in quotes: 'results="é"'"""
        return f"{error.override!r} cannot be read as KEY=VALUE ({first_line(error)}){quoted}"
    match = KEY.search(str(error))
    if "group override must be" in str(error):  # method=1
        return f"a group takes the name of one of its files ({first_line(error)})"
    if match is None:
        return first_line(error)
    key = match.group(1) or match.group(2)
    if match.group(2):
        return f"{key} exists already: write {key}=VALUE without the +"
    groups = [entry.name for entry in configs.iterdir() if entry.is_dir() and entry.name != "hydra"]
    return unknown_key(key, registered_options(), groups)
