"""The paper's claims judged by the records of a results folder, as Markdown, CSV and JSON.

python scripts/claims.py [RESULTS] [--experiment NAME] [--setting NAME ...] [--out FOLDER]
"""

import sys

from sns.analysis import cli as command
from sns.analysis.claims import text as claims_text
from sns.analysis.claims import verdicts as claims

FORMATS = {"md": claims_text.to_markdown, "csv": claims_text.to_csv, "json": claims_text.to_json}


@command.told
def main(arguments: list[str] | None = None) -> int:
    """Writes the files, prints the verdicts and where they are; 1 after an error that the user can
    put right."""
    parser = command.parser("The paper's claims judged by records: Markdown, CSV and JSON.")
    parser.add_argument("--setting", nargs="+", metavar="NAME", help="judge on these settings only")
    options = command.parse(parser, arguments)
    grid, out = command.load(options)
    verdicts = claims.compute(grid, options.setting)
    written = command.save(out, "claims", FORMATS, verdicts)
    if options.setting is None and len(grid.settings) > 1:
        alone = {name: claims.compute(grid, [name]) for name in grid.settings}
        written += "\n" + command.save(out, "claims_by_setting", {"md": claims_text.by_setting}, alone)
    for warning in grid.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"{claims_text.to_plain(verdicts)}\n\n{written}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
