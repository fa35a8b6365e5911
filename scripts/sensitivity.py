"""What changes with the choices that the paper leaves open, from the records of a results folder.

python scripts/sensitivity.py [RESULTS] [--out FOLDER]
"""

import sys

from sns.analysis import cli
from sns.analysis.sensitivity import text
from sns.analysis.sensitivity.compute import EXPERIMENT, compute, load_studies
from sns.common.command import reports_errors


@reports_errors
def main(arguments: list[str] | None = None) -> int:
    """Writes sensitivity.csv and .md and prints where they are."""
    out = f"where to write; default RESULTS/{EXPERIMENT}"
    parser = cli.results_parser("The sensitivity studies from records: CSV and Markdown.", experiment=False, out=out)
    options = parser.parse_args(arguments)
    frame = compute(*load_studies(options.results))
    print(cli.save(options.out or options.results / EXPERIMENT, "sensitivity", text.FORMATS, frame))
    return 0


if __name__ == "__main__":
    sys.exit(main())
