"""Repeats the final measurements of a finished run from its checkpoint, with other options."""

import dataclasses
from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sns.common.errors import ConfigError, UserError
from sns.common.precision import training_precision
from sns.config.schema import to_dict
from sns.record import store
from sns.record.lock import RunLock
from sns.record.schema import Result
from sns.train import checkpoint
from sns.train.configure import configure
from sns.train.result import SavedPieces
from sns.train.session import start


def remeasure(directory: Path, overrides: list[str]) -> Result:
    """Measures the run in `directory` with `measure.*` overrides and rewrites its record.

    History and timings stay. UserError if the run did not train to its end, has no checkpoint, or
    an override is unknown.
    """
    record = store.read(directory)
    if record.result.status != "ok":
        raise UserError(f"{directory} holds a run that {record.result.status}: there is nothing to measure")
    if not (directory / checkpoint.FILE).is_file():
        raise UserError(f"{directory} has no {checkpoint.FILE}: train again with train.keep_checkpoint=true")
    if not record.config:
        raise UserError(f"{directory} has no {store.CONFIG}: the run cannot be rebuilt")
    try:
        tree = OmegaConf.merge(record.config, OmegaConf.from_dotlist(overrides))
    except OmegaConfBaseException as error:
        raise ConfigError(f"the overrides {overrides} do not fit: {str(error).splitlines()[0]}") from None
    config = configure(tree)
    with RunLock(directory), training_precision(config.train.precision):
        session = start(config, directory)
        if session.step != record.result.steps:
            raise UserError(f"{directory} has a checkpoint of update {session.step}, not of {record.result.steps}")
        measured = session.task.final(SavedPieces(directory, session.step, saved=False))
    environment = record.result.environment | {"measured": to_dict(config)["measure"]}
    # Measurements that the new options switch off keep their old values.
    measured = record.result.measured | {name: value for name, value in measured.items() if value is not None}
    result = dataclasses.replace(record.result, measured=measured, environment=environment)
    store.write_result(directory, result)
    return result
