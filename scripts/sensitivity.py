"""What changes with the choices that the paper leaves open, from the records of a results folder.

python scripts/sensitivity.py [RESULTS] [--out FOLDER]
"""

import argparse
import sys
from pathlib import Path

from sns.analysis import cli as command
from sns.analysis.cells import Results, load
from sns.analysis.sensitivity import compute as sensitivity
from sns.analysis.sensitivity import text as sensitivity_text
from sns.common.errors import RecordError

FORMATS = {"csv": sensitivity_text.to_csv, "md": sensitivity_text.to_markdown}


@command.told
def main(arguments: list[str] | None = None) -> int:
    """Writes sensitivity.csv and .md and says where they are; 1 after an error that the user can
    put right."""
    parser = argparse.ArgumentParser(description="The sensitivity studies from records: CSV and Markdown.")
    parser.add_argument("results", nargs="?", type=Path, default=Path("results"), help="results folder")
    options = command.parse(parser, arguments, out=f"where to write; default RESULTS/{sensitivity.EXPERIMENT}")
    out = options.results / sensitivity.EXPERIMENT if options.out is None else options.out
    grids = [_grid(options.results, name) for name in (sensitivity.EXPERIMENT, sensitivity.MAIN)]
    if not any(grid is not None and grid.records for grid in grids):
        raise RecordError(f"{options.results} holds no finished run of the studies: train them (make sensitivity)")
    print(command.save(out, "sensitivity", FORMATS, sensitivity.compute(*grids)))
    return 0


def _grid(results: Path, experiment: str) -> Results | None:
    """The records of an experiment; None where it has not been begun."""
    folder = results / "runs" / experiment
    return load(folder) if folder.is_dir() else None


if __name__ == "__main__":
    sys.exit(main())
