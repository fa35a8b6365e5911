"""The report of a results folder: one HTML page with the table, the figures and the claims, to open from disk.

python scripts/report.py [RESULTS] [--experiment NAME] [--out FILE]
"""

import argparse
import sys
from pathlib import Path

from sns.analysis import report
from sns.analysis.grid import load_experiment, output_folder
from sns.errors import UserError


def main(arguments: list[str] | None = None) -> int:
    """Writes the page and prints where it is; 1 after an error that the user can put right."""
    parser = argparse.ArgumentParser(description="One self-contained HTML page from records.")
    parser.add_argument("results", nargs="?", type=Path, default=Path("results"), help="results or experiment folder")
    parser.add_argument("--experiment", help="a folder under RESULTS/runs, needed where there are several")
    parser.add_argument("--out", type=Path, help="the file to write; default RESULTS/EXPERIMENT/report.html")
    options = parser.parse_args(arguments)
    try:
        folder, grid = load_experiment(options.results, options.experiment)
        path = output_folder(folder) / "report.html" if options.out is None else options.out
        size = report.write(grid, folder.name, path)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for warning in grid.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"written: {path} ({size / 1e6:.1f} MB); open it in a browser")
    return 0


if __name__ == "__main__":
    sys.exit(main())
