"""What changes with the choices that the paper leaves open, from the records of a results folder.

python scripts/sensitivity.py [RESULTS] [--out FOLDER]
"""

import sys
from pathlib import Path

from sns.analysis import cli
from sns.analysis.sensitivity import text
from sns.analysis.sensitivity.compute import EXPERIMENT, compute, load_studies


@cli.reports_errors
def main(arguments: list[str] | None = None) -> int:
    """Writes sensitivity.csv and .md and prints where they are."""
    parser = cli.Parser(description="The sensitivity studies from records: CSV and Markdown.")
    parser.add_argument("results", nargs="?", type=Path, default=Path("results"), help="results folder")
    parser.add_argument("--out", type=Path, help=f"where to write; default RESULTS/{EXPERIMENT}")
    options = parser.parse_args(arguments)
    frame = compute(*load_studies(options.results))
    print(cli.save(options.out or options.results / EXPERIMENT, "sensitivity", text.FORMATS, frame))
    return 0


if __name__ == "__main__":
    sys.exit(main())
