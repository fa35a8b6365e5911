"""The score of every cell of an experiment, of any task, as Markdown and CSV.

python scripts/scores.py [RESULTS] [--experiment NAME] [--out DIR]
"""

import sys

from sns.analysis import cli, scores
from sns.common.command import reports_errors


@reports_errors
def main(arguments: list[str] | None = None) -> int:
    """Writes the files, prints the table and where the files are."""
    options = cli.results_parser("The score of every cell, of any task.").parse_args(arguments)
    _, results, out = cli.open_experiment(options, task=None)
    frame = scores.compute(results)
    written = cli.save(out, "scores", scores.FORMATS, frame)
    print(f"{scores.to_markdown(frame)}\n{written}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
