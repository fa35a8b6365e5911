"""Each method against vanilla over a whole experiment: a short table (summary.md) and a figure.

python scripts/summary.py [RESULTS] [--experiment NAME] [--out FOLDER]
"""

import sys

from sns.analysis import cli
from sns.analysis.figures import render as figures
from sns.analysis.figures import summary
from sns.common.command import reports_errors


@reports_errors
def main(arguments: list[str] | None = None) -> int:
    """Writes the files and prints the table; 1 where there is nothing to summarise."""
    parser = cli.results_parser("Each method against vanilla, from records.")
    _, results, out = cli.open_experiment(parser.parse_args(arguments))
    frame = summary.compute(results)
    written = cli.save(out, "summary", {"md": summary.to_markdown}, frame)
    files = figures.render("summary", results, out)
    print(f"{summary.to_markdown(frame)}\n{written}, {', '.join(str(file) for file in files)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
