"""What changes with the choices that the paper leaves open, from the records of a results folder.

python scripts/sensitivity.py [RESULTS] [--out FOLDER]
"""

import argparse
import sys
from pathlib import Path

from sns.analysis import sensitivity, sensitivity_text
from sns.analysis.grid import Grid, load
from sns.errors import RecordError, UserError
from sns.record.store import write_text


def main(arguments: list[str] | None = None) -> int:
    """Writes sensitivity.csv and .md and says where they are; 1 after an error that the user can put right."""
    parser = argparse.ArgumentParser(description="The sensitivity studies from records: CSV and Markdown.")
    parser.add_argument("results", nargs="?", type=Path, default=Path("results"), help="results folder")
    parser.add_argument("--out", type=Path, help=f"where to write; default RESULTS/{sensitivity.EXPERIMENT}")
    options = parser.parse_args(arguments)
    out = options.results / sensitivity.EXPERIMENT if options.out is None else options.out
    try:
        grids = [_grid(options.results, name) for name in (sensitivity.EXPERIMENT, sensitivity.MAIN)]
        if not any(grid is not None and grid.records for grid in grids):
            raise RecordError(f"{options.results} holds no finished run of the studies: train them (make sensitivity)")
        frame = sensitivity.compute(*grids)
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / "sensitivity.csv", sensitivity_text.to_csv(frame))
        write_text(out / "sensitivity.md", sensitivity_text.to_markdown(frame))
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"written: {out / 'sensitivity.csv'}, {out / 'sensitivity.md'}")
    return 0


def _grid(results: Path, experiment: str) -> Grid | None:
    """The records of an experiment; None where it has not been begun."""
    folder = results / "runs" / experiment
    return load(folder) if folder.is_dir() else None


if __name__ == "__main__":
    sys.exit(main())
