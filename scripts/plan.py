"""The dry run of `scripts/train.py -m`: its runs, their states, and an estimate of the time left on
this device.

python scripts/plan.py experiment=table1 seed=0,1,2

Estimates rest on counted operations and on speeds measured here before, if there are any. --time
measures a few updates of each cell first, for a minute in all. All other options are those of
scripts/train.py.
"""

import collections
import sys

from rich.console import Console
from rich.table import Table

from sns.common.command import reports_errors
from sns.launch.estimate import Estimator, too_long
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
    sweep, errors = dry_run([word for word in words if word != "--time"])
    for error in errors:
        print(f"error: {error}", file=sys.stderr)
    runs = planned([run.config for run in sweep])
    estimator = Estimator(timing="--time" in words)
    left = remaining(runs, estimator.seconds)
    total = sum(seconds for seconds in left.values() if seconds is not None)
    first = too_long(total, len(left), [run.config for run in sweep])
    if first is not None:
        print(first)
    table = Table("run", "state", "time (estimate where not finished)")
    for run in runs:
        seconds = left.get(run.config.run_id, run.seconds)
        unknown = "unknown" if run.config.run_id in left else ""
        table.add_row(run.config.run_id, run.state.name, unknown if seconds is None else clock(seconds))
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    counts = collections.Counter(run.state.name for run in runs)
    print(f"{len(runs)} runs: " + ", ".join(f"{count} {state}" for state, count in counts.items()))
    print(_left(left, total))
    if estimator.basis():
        print(estimator.basis())
    return int(bool(errors))


def _left(left: dict[str, float | None], total: float) -> str:
    unknown = list(left.values()).count(None)
    known = f", about {clock(total)} on this device one after the other" if unknown < len(left) or not left else ""
    more = f"; the time of {unknown} is unknown: TIME=1 measures it" if unknown else ""
    return f"left: {len(left)} runs{known}{more}"


if __name__ == "__main__":
    sys.exit(main())
