"""The paper's claims judged by the records of a results folder, as Markdown, CSV and JSON.

python scripts/claims.py [RESULTS] [--experiment NAME] [--setting NAME ...] [--out FOLDER]
"""

import sys

from sns.analysis import cli
from sns.analysis.claims import text
from sns.common.command import reports_errors


@reports_errors
def main(arguments: list[str] | None = None) -> int:
    """Writes the files, prints the verdicts and where the files are."""
    parser = cli.results_parser("The paper's claims judged by records: Markdown, CSV and JSON.")
    parser.add_argument("--setting", nargs="+", metavar="NAME", help="judge on these settings only")
    options = parser.parse_args(arguments)
    _, results, out = cli.open_experiment(options)
    verdicts, written = text.write(results, out, options.setting)
    print(f"{text.to_plain(verdicts)}\n\n{written}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
