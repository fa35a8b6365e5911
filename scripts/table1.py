"""Table 1 from the records of a results folder, as Markdown, CSV and LaTeX.

python scripts/table1.py [RESULTS] [--experiment NAME] [--accuracy best] [--all-cells] [--out FOLDER]
"""

import sys

from sns.analysis import cli as command
from sns.analysis.table1 import table as table1
from sns.analysis.table1 import text as table1_text

FORMATS = {"md": table1_text.to_markdown, "csv": table1_text.to_csv, "tex": table1_text.to_latex}


@command.told
def main(arguments: list[str] | None = None) -> int:
    """Writes the files, prints the table and where they are; 1 after an error that the user can put
    right."""
    parser = command.parser("Table 1 from records: Markdown, CSV and LaTeX.")
    parser.add_argument("--accuracy", choices=table1.ACCURACIES, default="final", help="last or best evaluation")
    parser.add_argument("--all-cells", action="store_true", help="also list the paper's settings without runs")
    options = command.parse(parser, arguments)
    grid, out = command.load(options)
    frame = table1.compute(grid, accuracy=options.accuracy, all_cells=options.all_cells)
    written = command.save(out, "table1", FORMATS, frame)
    print(f"{table1_text.to_plain(frame)}\n\n{written}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
