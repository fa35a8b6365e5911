"""The report of a results folder: one HTML page with the table, the figures and the claims, to open
from disk.

python scripts/report.py [RESULTS] [--experiment NAME] [--out FILE]
"""

import sys

from sns.analysis import cli
from sns.analysis.report import page as report
from sns.common.command import reports_errors


@reports_errors
def main(arguments: list[str] | None = None) -> int:
    """Writes the page and prints where it is; 1 after an error that the user can put right."""
    out = "the file to write; default RESULTS/EXPERIMENT/report.html"
    options = cli.results_parser("One self-contained HTML page from records.", out).parse_args(arguments)
    folder, results, path = cli.open_experiment(options)
    path = path / "report.html" if options.out is None else path
    size = report.write(results, folder.name, path)
    print(f"written: {path} ({size / 1e6:.1f} MB); open it in a browser")
    return 0


if __name__ == "__main__":
    sys.exit(main())
