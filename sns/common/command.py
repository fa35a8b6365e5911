"""What every script shares: arguments, and one sentence with exit code 1 for an error."""

import argparse
import functools
import sys
from collections.abc import Callable
from typing import NoReturn

from sns.common.errors import UserError

Main = Callable[[list[str] | None], int]


class Parser(argparse.ArgumentParser):
    """A parser for a `main` with `reports_errors`: wrong arguments raise UserError."""

    def error(self, message: str) -> NoReturn:
        """Raises UserError, so that the exit code is 1 instead of argparse's 2."""
        raise UserError(f"{message}; --help lists the arguments")


def reports_errors(main: Main) -> Main:
    """Decorates a script's `main`: an error that the user can fix is printed to stderr as one line,
    and the exit code is 1."""

    @functools.wraps(main)
    def run(arguments: list[str] | None = None) -> int:
        try:
            return main(arguments)
        except (UserError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1

    return run
