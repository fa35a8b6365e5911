"""A mistake in the command line, explained in one sentence with the nearest word that exists."""

import difflib
import re
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

from hydra.errors import MissingConfigException, OverrideParseException

from sns.common.errors import first_line
from sns.config.compose import SECTIONS, TopConfig
from sns.method import METHODS
from sns.model import MODELS

KEY = re.compile(r"Could not override '\+*([^'@]+)'|Could not append to config\. An item is already at '([^']+)'")


def explain(error: Exception, configs: Path) -> str:
    """What is wrong with the command line, in one sentence. `configs`: the folder of its groups."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, name = error.missing_cfg_file.rpartition("/")
        return f"there is no {group}={name}{nearest(name, error.options)}; choose one of {', '.join(error.options)}"
    if isinstance(error, OverrideParseException):
        return f"{error.override!r} cannot be read as KEY=VALUE ({first_line(error)})"
    match = KEY.search(str(error))
    if match is None:
        return first_line(error)
    key = match.group(1) or match.group(2)
    if match.group(2):
        return f"{key} exists already: write {key}=VALUE without the +"
    existing = keys(configs)
    section = key.rpartition(".")[0]
    if section in ("model", "method") and key in existing:
        return f"{key} belongs to {_owners(key)}: name one of them on the command line too"
    near = nearest(key, existing)
    siblings = [name for name in existing if name.rpartition(".")[0] == section]
    where = f"{section}.* has" if section and siblings else "there are"
    choice = siblings or [name for name in existing if "." not in name]
    return f"there is no {key}{near}; {where} {', '.join(name.rpartition('.')[2] for name in choice)}"


def _owners(key: str) -> str:
    """The models or methods that have this option, as the choices that select them."""
    section, _, option = key.rpartition(".")
    choices = (METHODS if section == "method" else MODELS).items()
    return ", ".join(
        f"{section}={name}" for name, each in choices if option in {entry.name for entry in fields(each.Config)}
    )


def keys(configs: Path) -> list[str]:
    """Every word that may stand before a `=`: groups, sections and their fields."""
    names = {entry.name for entry in configs.iterdir() if entry.is_dir() and entry.name != "hydra"}
    names |= {entry.name for entry in fields(TopConfig)} | set(SECTIONS)
    options = {"model": MODELS.values(), "method": METHODS.values()}
    classes = [(name, cls) for name, cls in SECTIONS.items()]
    classes += [(name, each.Config) for name, registry in options.items() for each in registry]
    return sorted(names | {f"{section}.{entry.name}" for section, cls in classes for entry in fields(cls)})


def nearest(name: str, choices: Iterable[str]) -> str:
    """` (did you mean ...?)`, or an empty text where no choice is near.

    Near are similar spellings, the same field of another section, and words that start with `name`.
    """
    words, last = list(choices), name.rpartition(".")[2]
    close = difflib.get_close_matches(name, words, n=1)
    close = close or [word for word in words if word.rpartition(".")[2] == last]
    close = (close or [word for word in words if word.startswith(name)])[:1]
    return f" (did you mean {close[0]}?)" if close else ""
