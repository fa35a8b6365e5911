"""Hydra's own switches on the command line, brought into the order that Hydra can read."""

import argparse
from collections.abc import Sequence
from typing import NoReturn

from hydra._internal.utils import get_args_parser

from sns.common.errors import ConfigError

COMMANDS = {"run": "--run", "multirun": "--multirun", "cfg": "--cfg", "info": "--info"}


def checked(words: Sequence[str]) -> list[str]:
    """`words` with the options before the switches: Hydra does not read `a=1 -m b=2`.

    ConfigError, one sentence, for switches that are unknown or do not go together.
    """
    parser = get_args_parser()
    parser.__class__ = _Parser
    found = parser.parse_intermixed_args(list(words))
    given = [word for key, word in COMMANDS.items() if getattr(found, key) not in (None, False)]
    given += ["--shell-completion"] if found.shell_completion else []
    if len(given) > 1:
        hint = "; scripts/plan.py lists the runs of a sweep" if found.multirun else ""
        raise ConfigError(f"{' and '.join(given)} are different commands: choose one{hint}")
    if found.resolve and found.cfg is None and not found.help:
        raise ConfigError("--resolve belongs to --cfg: write --cfg job --resolve")
    if found.package is not None and found.cfg is None:
        raise ConfigError(f"--package belongs to --cfg: write --cfg job --package {found.package}")
    left = list(words)
    for word in found.overrides:
        left.remove(word)
    return [*found.overrides, *left]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)
