"""The dry run of `scripts/train.py -m`: its runs, their states, and an estimate of the time left on
this device.

python scripts/plan.py experiment=table1 seed=0,1,2
"""

import collections
import sys

from rich.console import Console
from rich.table import Table

from sns.common.command import reports_errors
from sns.launch.estimate import run_seconds
from sns.launch.plan import planned, remaining
from sns.launch.sweep import dry_run
from sns.train.progress import clock


@reports_errors
def main(overrides: list[str] | None = None) -> int:
    """Prints the plan of a sweep; returns 1 if some combinations of values are not valid."""
    words = sys.argv[1:] if overrides is None else overrides
    if {"-h", "--help"} & set(words):
        print(__doc__)
        return 0
    sweep, errors = dry_run(words)
    for error in errors:
        print(f"error: {error}", file=sys.stderr)
    runs = planned([run.config for run in sweep])
    print("timing a few updates on this device for runs without a finished sibling ...", file=sys.stderr)
    left = remaining(runs, run_seconds)
    table = Table("run", "state", "time (estimate where not finished)")
    for run in runs:
        seconds = left.get(run.config.run_id, run.seconds)
        table.add_row(run.config.run_id, run.state.name, "" if seconds is None else clock(seconds))
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    counts = collections.Counter(run.state.name for run in runs)
    print(f"{len(runs)} runs: " + ", ".join(f"{count} {state}" for state, count in counts.items()))
    print(f"left: {len(left)} runs, about {clock(sum(left.values()))} on this device one after the other")
    return int(bool(errors))


if __name__ == "__main__":
    sys.exit(main())
