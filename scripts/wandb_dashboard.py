"""Builds the shared view of an experiment in Weights & Biases: a workspace and a report.

python scripts/wandb_dashboard.py [--experiment NAME] [--entity TEAM] [--project NAME]
                                  [--out FOLDER]
"""

import argparse
import importlib.util
import sys
from pathlib import Path

from sns.common.command import Parser, reports_errors
from sns.common.errors import UserError, first_line
from sns.common.files import write_text
from sns.config.schema import TrackConfig
from sns.track.sync import require_server

LOCAL = "entity"  # in place of the team in files


@reports_errors
def main(arguments: list[str] | None = None) -> int:
    """Saves both views, or writes them to --out."""
    parser = Parser(description="Build the shared Weights & Biases view of an experiment.")
    parser.add_argument("--experiment", help="only the runs of this experiment, such as table1")
    parser.add_argument("--entity", help="team or user; default: the account's own")
    parser.add_argument("--project", default=TrackConfig().project, help="default %(default)s")
    parser.add_argument("--out", type=Path, help="write workspace.json and report.json here; save nothing")
    options = parser.parse_args(arguments)
    if importlib.util.find_spec("wandb_workspaces") is None:
        raise UserError("wandb-workspaces is not installed; pip install -e '.[track]'")
    if options.out is None:
        _save(options)
    else:
        _write(options)
    return 0


def _write(options: argparse.Namespace) -> None:
    from sns.track import dashboard

    options.out.mkdir(parents=True, exist_ok=True)
    for name, build in (("workspace", dashboard.build_workspace), ("report", dashboard.build_report)):
        view = build(options.entity or LOCAL, options.project, options.experiment)
        write_text(options.out / f"{name}.json", dashboard.to_json(view))
        print(options.out / f"{name}.json")


def _save(options: argparse.Namespace) -> None:
    require_server()
    import wandb

    from sns.track import dashboard

    try:
        entity = options.entity or wandb.Api().default_entity
        for build in (dashboard.build_workspace, dashboard.build_report):
            print(build(entity, options.project, options.experiment).save().url)
    except Exception as error:  # any kind: it is the server's answer
        raise UserError(
            f"{options.project} could not get its view ({first_line(error)}); make sync first, and check --entity"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
