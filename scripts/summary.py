"""Each method against vanilla over the whole grid: a short table (summary.md) and a figure, from records.

python scripts/summary.py [RESULTS] [--experiment NAME] [--out FOLDER]
"""

import argparse
import sys
from pathlib import Path

from sns.analysis import figures, summary
from sns.analysis.grid import load_experiment, output_folder
from sns.errors import UserError
from sns.record.store import write_text


def main(arguments: list[str] | None = None) -> int:
    """Writes the files and prints the table; 1 where there is nothing to summarise."""
    parser = argparse.ArgumentParser(description="The grid at a glance, from records.")
    parser.add_argument("results", nargs="?", type=Path, default=Path("results"), help="results folder")
    parser.add_argument("--experiment", help="a folder under RESULTS/runs, needed where there are several")
    parser.add_argument("--out", type=Path, help="where to write; default RESULTS/EXPERIMENT")
    options = parser.parse_args(arguments)
    try:
        folder, grid = load_experiment(options.results, options.experiment)
        out = output_folder(folder) if options.out is None else options.out
        files = figures.render("summary", grid, out)
        text = summary.to_markdown(summary.compute(grid))
        write_text(out / "summary.md", text)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{text}\n{', '.join(str(file) for file in (out / 'summary.md', *files))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
