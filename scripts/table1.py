"""Table 1 from the records of a results folder, as Markdown, CSV and LaTeX.

python scripts/table1.py [RESULTS] [--experiment NAME] [--accuracy best] [--all-cells] [--or-empty]
                         [--out DIR]
"""

import sys

from sns.analysis import cli
from sns.analysis.table1 import table, text
from sns.common.command import reports_errors


@reports_errors
def main(arguments: list[str] | None = None) -> int:
    """Writes the files, prints the table and where the files are."""
    parser = cli.results_parser("Table 1 from records: Markdown, CSV and LaTeX.")
    parser.add_argument(
        "--accuracy", choices=table.ACCURACIES, default="final", help="of which evaluation; default final"
    )
    parser.add_argument("--all-cells", action="store_true", help="also list the paper's settings without runs")
    parser.add_argument("--or-empty", action="store_true", help="write the table even if no run is finished")
    options = parser.parse_args(arguments)
    _, results, out = cli.open_experiment(options, may_be_empty=options.or_empty)
    frame = table.compute(results, accuracy=options.accuracy, all_cells=options.all_cells)
    print(f"{text.to_plain(frame)}\n\n{cli.save(out, 'table1', text.FORMATS, frame)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
