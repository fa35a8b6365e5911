"""What every script shares: an error that the user can fix is one sentence, and its exit code is
1."""

import functools
import sys
from collections.abc import Callable

from sns.common.errors import UserError

Main = Callable[[list[str] | None], int]


def one_line_errors(main: Main) -> Main:
    """A script's `main` that prints a UserError or OSError in one line and returns 1, also for a
    usage error of argparse."""

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
