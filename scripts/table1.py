"""Table 1 from the records of a results folder, as Markdown, CSV and LaTeX.

python scripts/table1.py [RESULTS] [--experiment NAME] [--accuracy best] [--all-cells] [--out FOLDER]
"""

import argparse
import sys
from pathlib import Path

from sns.analysis import table1, table1_text
from sns.analysis.grid import load_experiment, output_folder
from sns.errors import UserError
from sns.record.store import write_text


def main(arguments: list[str] | None = None) -> int:
    """Writes the files, prints the table and where they are; 1 after an error that the user can put right."""
    parser = argparse.ArgumentParser(description="Table 1 from records: Markdown, CSV and LaTeX.")
    parser.add_argument("results", nargs="?", type=Path, default=Path("results"), help="results or experiment folder")
    parser.add_argument("--experiment", help="a folder under RESULTS/runs, needed where there are several")
    parser.add_argument("--accuracy", choices=table1.ACCURACIES, default="final", help="last or best evaluation")
    parser.add_argument("--all-cells", action="store_true", help="also list the paper's settings without runs")
    parser.add_argument("--out", type=Path, help="where to write; default RESULTS/EXPERIMENT")
    options = parser.parse_args(arguments)
    try:
        folder, grid = load_experiment(options.results, options.experiment)
        out = output_folder(folder) if options.out is None else options.out
        frame = table1.compute(grid, accuracy=options.accuracy, all_cells=options.all_cells)
        out.mkdir(parents=True, exist_ok=True)
        formats = {"md": table1_text.to_markdown, "csv": table1_text.to_csv, "tex": table1_text.to_latex}
        for suffix, write in formats.items():
            write_text(out / f"table1.{suffix}", write(frame))
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(table1_text.to_plain(frame))
    print(f"\nwritten: {', '.join(str(out / f'table1.{suffix}') for suffix in formats)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
