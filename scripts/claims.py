"""The paper's claims judged by the records of a results folder, as Markdown, CSV and JSON.

python scripts/claims.py [RESULTS] [--experiment NAME] [--setting NAME ...] [--out FOLDER]
python scripts/claims.py results --experiment pocket --power
    how many seeds would decide a difference of one point, from the seeds that came first
"""

import sys

from sns.analysis import cli
from sns.analysis.claims import power, text
from sns.common.command import reports_errors


@reports_errors
def main(arguments: list[str] | None = None) -> int:
    """Writes the files, prints the verdicts and where the files are."""
    parser = cli.results_parser("The paper's claims judged by records: Markdown, CSV and JSON.")
    parser.add_argument("--setting", nargs="+", metavar="NAME", help="judge on these settings only")
    parser.add_argument("--power", action="store_true", help="write the power calculation instead (power.md, .csv)")
    options = parser.parse_args(arguments)
    _, results, out = cli.open_experiment(options)
    if options.power:
        computed = power.compute(results)
        print(f"{power.to_markdown(computed)}\n{cli.save(out, 'power', power.FORMATS, computed)}")
        return 0
    judged, written = text.write(results, out, options.setting)
    print(f"{text.to_plain(judged)}\n\n{written}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
