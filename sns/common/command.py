"""Shared by every script: an error that the user can fix prints one sentence and exits with 1."""

import functools
import sys
from collections.abc import Callable

from sns.common.errors import UserError

Main = Callable[[list[str] | None], int]


def one_line_errors(main: Main) -> Main:
    """Decorates a script's `main`: a UserError or OSError is printed on one line and returns 1.

    A usage error of argparse returns 1 too.
    """

    @functools.wraps(main)
    def run(arguments: list[str] | None = None) -> int:
        try:
            return main(arguments)
        except (UserError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        except SystemExit as end:
            return int(bool(end.code))

    return run
