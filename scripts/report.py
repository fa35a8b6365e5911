"""The report of a results folder: one HTML page with the table, the figures and the claims, to open
from disk.

python scripts/report.py [RESULTS] [--experiment NAME] [--out FILE]
"""

import sys

from sns.analysis import cli as command
from sns.analysis.cells import load_experiment, output_folder
from sns.analysis.report import page as report


@command.told
def main(arguments: list[str] | None = None) -> int:
    """Writes the page and prints where it is; 1 after an error that the user can fix."""
    parser = command.parser("One self-contained HTML page from records.")
    options = command.parse(parser, arguments, out="the file to write; default RESULTS/EXPERIMENT/report.html")
    folder, results = load_experiment(options.results, options.experiment)
    path = output_folder(folder) / "report.html" if options.out is None else options.out
    size = report.write(results, folder.name, path)
    for warning in results.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"written: {path} ({size / 1e6:.1f} MB); open it in a browser")
    return 0


if __name__ == "__main__":
    sys.exit(main())
