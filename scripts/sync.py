"""Uploads to Weights & Biases the runs that it does not show yet; repeat it to continue.

python scripts/sync.py [RESULTS] [--dir FOLDER] [--timeout SECONDS] [--dry-run]
"""

import sys
from pathlib import Path

from sns.common.command import Parser, reports_errors
from sns.common.errors import UserError
from sns.track import sync


@reports_errors
def main(arguments: list[str] | None = None) -> int:
    """0 if everything is on the server."""
    parser = Parser(description="Upload offline runs to Weights & Biases.")
    parser.add_argument(
        "results", nargs="?", type=Path, default=Path("results"), help="results folder; default results"
    )
    parser.add_argument("--dir", type=Path, help="track.dir of the runs, where it was set")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds for one run; default 600")
    parser.add_argument("--dry-run", action="store_true", help="only count the runs")
    options = parser.parse_args(arguments)
    folder = options.dir or options.results
    wandb, runs = folder / "wandb", options.results / "runs"
    if not runs.is_dir():
        raise UserError(f"{runs} does not exist; give the results folder that holds runs/<experiment>/<run_id>")
    missing = sync.without_mirror(runs, wandb)
    if options.dry_run:
        print(f"{len(sync.pending(wandb))} runs to upload, and {len(missing)} records that W&B does not show yet")
        return 0
    server = sync.require_server()
    sync.write_offline(missing, folder, lambda line: print(line, file=sys.stderr))
    left = sync.pending(wandb)
    for number, path in enumerate(left, start=1):
        sync.upload(path, options.timeout)
        print(f"{number} of {len(left)}: {path.name}", flush=True)
    print(f"everything below {wandb} is on {server}" if left else f"nothing to upload below {wandb}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
