"""The paper's claims judged by the records of a results folder, as Markdown, CSV and JSON.

python scripts/claims.py [RESULTS] [--experiment NAME] [--setting NAME ...] [--out FOLDER]
"""

import argparse
import sys
from pathlib import Path

from sns.analysis import claims, claims_text
from sns.analysis.grid import load_experiment, output_folder
from sns.errors import UserError
from sns.record.store import write_text


def main(arguments: list[str] | None = None) -> int:
    """Writes the files, prints the verdicts and where they are; 1 after an error that the user can put right."""
    parser = argparse.ArgumentParser(description="The paper's claims judged by records: Markdown, CSV and JSON.")
    parser.add_argument("results", nargs="?", type=Path, default=Path("results"), help="results or experiment folder")
    parser.add_argument("--experiment", help="a folder under RESULTS/runs, needed where there are several")
    parser.add_argument("--setting", nargs="+", metavar="NAME", help="judge on these settings only")
    parser.add_argument("--out", type=Path, help="where to write; default RESULTS/EXPERIMENT")
    options = parser.parse_args(arguments)
    try:
        folder, grid = load_experiment(options.results, options.experiment)
        out = output_folder(folder) if options.out is None else options.out
        verdicts = claims.compute(grid, options.setting)
        out.mkdir(parents=True, exist_ok=True)
        formats = {"md": claims_text.to_markdown, "csv": claims_text.to_csv, "json": claims_text.to_json}
        for suffix, write in formats.items():
            write_text(out / f"claims.{suffix}", write(verdicts))
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for warning in grid.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(claims_text.to_plain(verdicts))
    print(f"\nwritten: {', '.join(str(out / f'claims.{suffix}') for suffix in formats)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
