"""Everything a reader sees, from the records of one experiment: summary, table, figures, claims and
report.

python scripts/publish.py [RESULTS] [--experiment NAME]
"""

import sys

import claims
import figures
import report
import summary
import table1

from sns.analysis import cli
from sns.common.command import reports_errors

SCRIPTS = {"Summary": summary, "Table 1": table1, "Figures": figures, "Claims": claims, "Report": report}


@reports_errors
def main(arguments: list[str] | None = None) -> int:
    """Runs the five scripts with the same arguments; 1 if one of them failed."""
    parser = cli.results_parser("Summary, Table 1, figures, claims and report from records.", out=None)
    options = parser.parse_args(arguments)
    chosen = [str(options.results), *(["--experiment", options.experiment] if options.experiment else [])]
    failed = 0
    for heading, script in SCRIPTS.items():
        print(f"\n== {heading}", flush=True)
        failed |= script.main(chosen)
    return failed


if __name__ == "__main__":
    sys.exit(main())
