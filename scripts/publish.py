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


def main(arguments: list[str]) -> int:
    """Runs the five scripts with the same arguments; 1 if one of them failed."""
    failed = 0
    scripts = {"Summary": summary, "Table 1": table1, "Figures": figures, "Claims": claims, "Report": report}
    for what, script in scripts.items():
        print(f"\n== {what}", flush=True)
        failed |= script.main(arguments)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
