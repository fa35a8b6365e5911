"""The report of a results folder: one HTML page with the table, the figures and the claims, to open
from disk.

python scripts/report.py [RESULTS] [--experiment NAME] [--out FILE_OR_FOLDER]
"""

import sys

from sns.analysis import cli
from sns.analysis.report import figures as report_figures
from sns.analysis.report import page as report
from sns.common.command import reports_errors


@reports_errors
def main(arguments: list[str] | None = None) -> int:
    """Writes the page and prints where it is; 1 after an error that the user can fix, or where the
    page has a figure's error in its place."""
    out = "the file to write, or an existing folder for report.html; default RESULTS/EXPERIMENT/report.html"
    options = cli.results_parser("One self-contained HTML page from records.", out=out).parse_args(arguments)
    folder, results, path = cli.open_experiment(options)
    path = path / "report.html" if options.out is None or path.is_dir() else path
    figures = report_figures.build(results)
    bugs = [figure["error"] for figure in figures.values() if figure["bug"]]
    for bug in bugs:
        print(f"{bug} (SNS_DEBUG=1 shows the trace)", file=sys.stderr)
    size = report.write(results, folder.name, path, figures)
    print(f"written: {path} ({size / 1e6:.1f} MB); open it in a browser")
    return 1 if bugs else 0


if __name__ == "__main__":
    sys.exit(main())
