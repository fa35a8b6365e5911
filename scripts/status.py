"""Where a grid stands: which runs are done, running, queued, stopped, diverged or failed, and how
far each has come.

python scripts/status.py [RESULTS] [--experiment NAME] [--watch [SECONDS]]
"""

import argparse
import sys
import time
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live

from sns.common.errors import UserError
from sns.launch import status


def main(arguments: list[str] | None = None) -> int:
    """Prints the table, or keeps it up to date until Ctrl-C; 1 after an error that the user can put
    right."""
    parser = argparse.ArgumentParser(description="The state of every run of a grid.")
    parser.add_argument("results", nargs="?", type=Path, default=Path("results"), help="results folder")
    parser.add_argument("--experiment", help="a folder under RESULTS/runs; default: all of them")
    parser.add_argument("--watch", nargs="?", type=float, const=10.0, metavar="SECONDS", help="refresh (10 s)")
    options = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 200)
    try:
        if options.watch is None:
            console.print(_page(options.results, options.experiment))
            return 0
        with Live(_page(options.results, options.experiment), console=console, auto_refresh=False) as live:
            while True:
                time.sleep(max(0.5, options.watch))
                live.update(_page(options.results, options.experiment), refresh=True)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


def _page(results: Path, experiment: str | None) -> Group:
    folders = status.experiments(results)
    if experiment is not None:
        folders = [folder for folder in folders if folder.name == experiment]
        if not folders:
            raise UserError(f"{results}/runs has no experiment {experiment}")
    parts: list[object] = []
    for folder in folders:
        found = status.lines(folder)
        parts += [status.table(folder.name, found), status.summary(found), ""]
    return Group(*parts)  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(main())
