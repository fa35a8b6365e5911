"""Whether the folder of an experiment can be used, asked before anything is written."""

from pathlib import Path

from sns.common.errors import UserError
from sns.config.schema import Config


def check(config: Config) -> None:
    """UserError where a file stands in the way of the run directory, or where the experiment's name
    differs from an existing one in upper and lower case alone."""
    experiment = config.directory.parent
    for folder in (config.directory, *config.directory.parents):
        try:
            in_the_way = folder.exists() and not folder.is_dir()
        except OSError as error:  # a name that is too long, a folder that may not be entered
            raise UserError(f"{folder} cannot be used ({error.strerror}): name another folder by results=...") from None
        if in_the_way:
            raise UserError(f"{folder} is a file, not a folder: name another folder by results=...")
    if experiment.parent.is_dir() and not experiment.exists():
        _check_case(experiment, {path.name for path in experiment.parent.iterdir() if path.is_dir()})


def _check_case(experiment: Path, others: set[str]) -> None:
    same = sorted(name for name in others if name.lower() == experiment.name.lower())
    if same:
        raise UserError(
            f"experiment.name={experiment.name} differs from {same[0]} in {experiment.parent} in upper and lower case "
            f"alone, which some file systems ignore: write {same[0]}, or choose another name"
        )
