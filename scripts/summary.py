"""Each method against vanilla over a whole experiment: a short table (summary.md) and a figure.

python scripts/summary.py [RESULTS] [--experiment NAME] [--out FOLDER]
"""

import sys

from sns.analysis import cli as command
from sns.analysis.figures import render as figures
from sns.analysis.figures import summary


@command.reports_errors
def main(arguments: list[str] | None = None) -> int:
    """Writes the files and prints the table; 1 where there is nothing to summarise."""
    parser = command.results_parser("Each method against vanilla, from records.")
    _, results, out = command.open_experiment(parser.parse_args(arguments))
    frame = summary.compute(results)
    written = command.save(out, "summary", {"md": summary.to_markdown}, frame)
    files = figures.render("summary", results, out)
    print(f"{summary.to_markdown(frame)}\n{written}, {', '.join(str(file) for file in files)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
