"""Lists the runs of a grid: what is done, what is left, and about how long it will take on this
device.

python scripts/plan.py experiment=table1 seed=0,1,2
"""

import collections
import sys
from pathlib import Path

from hydra import initialize_config_dir
from hydra.errors import HydraException
from rich.console import Console
from rich.table import Table

from sns.common.errors import UserError
from sns.launch.estimate import run_seconds
from sns.launch.plan import expand, remaining, state_of
from sns.train.progress import clock


def main(overrides: list[str]) -> int:
    """Prints the plan; 0 if it could be made."""
    with initialize_config_dir(str(Path(__file__).resolve().parents[1] / "configs"), version_base="1.3"):
        configs = expand([text for text in overrides if not text.startswith(("hydra/launcher", "hydra.launcher"))])
    plan = [state_of(config) for config in configs]
    print("timing a few updates on this device for the runs that have no finished sibling ...", file=sys.stderr)
    left = remaining(plan, run_seconds)
    table = Table("run", "state", "time (estimate where not done)")
    for item in plan:
        seconds = left.get(item.config.run_id, item.seconds)
        table.add_row(item.config.run_id, item.state, "" if seconds is None else clock(seconds))
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    counts = collections.Counter(item.state for item in plan)
    print(f"{len(plan)} runs: " + ", ".join(f"{count} {state}" for state, count in counts.items()))
    print(f"left: {len(left)} runs, about {clock(sum(left.values()))} on this device one after the other")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (UserError, HydraException) as error:
        print(f"error: {str(error).splitlines()[0]}", file=sys.stderr)
        sys.exit(2)
