"""The state of every run of an experiment: done, running, queued, stopped, diverged or failed, and
how far it is.

python scripts/status.py [RESULTS] [--experiment NAME] [--watch [SECONDS]]
"""

import sys
import time
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live

from sns.common.command import Parser, reports_errors
from sns.common.errors import UserError
from sns.launch import status


@reports_errors
def main(arguments: list[str] | None = None) -> int:
    """Prints the table, or keeps it up to date until Ctrl-C."""
    parser = Parser(description="The state of every run of an experiment.")
    parser.add_argument(
        "results", nargs="?", type=Path, default=Path("results"), help="results folder; default results"
    )
    parser.add_argument("--experiment", help="a folder under RESULTS/runs; default: all of them")
    parser.add_argument(
        "--watch", nargs="?", type=float, const=10.0, metavar="SECONDS", help="again every SECONDS; default 10"
    )
    options = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 200)
    if options.watch is None:
        console.print(_page(options.results, options.experiment))
        return 0
    try:
        with Live(_page(options.results, options.experiment), console=console, auto_refresh=False) as live:
            while True:
                time.sleep(max(0.5, options.watch))
                live.update(_page(options.results, options.experiment), refresh=True)
    except KeyboardInterrupt:
        return 0


def _page(results: Path, experiment: str | None) -> Group:
    folders = [folder for folder in status.experiments(results) if experiment in (None, folder.name)]
    if not folders:
        raise UserError(f"{results}/runs has no experiment {experiment}")
    parts: list[object] = []
    for folder in folders:
        runs = status.lines(folder)
        parts += [status.table(folder.name, runs), status.summary(runs), ""]
    return Group(*parts)  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(main())
