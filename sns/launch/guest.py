"""Sweepers of Hydra's users, such as Optuna's: what a run returns to them."""

import math
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf

from sns.common.errors import ConfigError, UserError
from sns.config.schema import Config
from sns.launch.handover import SweepRun
from sns.record.schema import Result
from sns.record.state import state_of
from sns.task import TASKS

# Where a sweeper states whether it maximizes: Optuna, Nevergrad, Ax; and the value that means so.
DIRECTIONS: tuple[tuple[str, Any], ...] = (
    ("direction", "maximize"),
    ("optim.maximize", True),
    ("ax_config.experiment.minimize", False),
)


class WrongDirection(ConfigError):  # noqa: N818  a mistake that ends the whole sweep
    """The sweeper looks for the worst score."""


def is_guest(sweeper: DictConfig) -> bool:
    """Whether `sweeper`, of Hydra's configuration, is not this project's."""
    return not str(sweeper.get("_target_")).endswith(".SnsSweeper")


def check_direction(sweeper: DictConfig, config: Config) -> None:
    """WrongDirection if the sweeper looks for the worst score of the task."""
    score = TASKS[config.task.name].own_score(config)
    for key, maximizes in DIRECTIONS:
        value = OmegaConf.select(sweeper, key)
        value = getattr(value, "name", value)
        if value is not None and (value == maximizes) != score.high:
            wanted = maximizes if score.high else {"maximize": "minimize", True: False, False: True}[maximizes]
            raise WrongDirection(
                f"hydra.sweeper.{key}={value}, but a {'high' if score.high else 'low'} {score.column} is good: set "
                f"hydra.sweeper.{key}={str(wanted).lower()}"
            )


def objective(result: Result) -> float:
    """The task's score after the last update; infinitely bad for a run without one."""
    worst = -math.inf if result.high_is_good else math.inf
    value = result.final.get(result.score) if result.status == "ok" else None
    return worst if value is None else value


def job_return(run: SweepRun) -> JobReturn:
    """What Hydra passes to the sweeper for a run that has ended: its objective, or its error."""
    state = state_of(run.config.directory)
    if state.result is None or state.name == "failed":
        error = UserError(f"{run.config.run_id}: {state.reason or state.name}")
        return JobReturn(overrides=list(run.overrides), _return_value=error, status=JobStatus.FAILED)
    return JobReturn(overrides=list(run.overrides), _return_value=objective(state.result), status=JobStatus.COMPLETED)


class Reported(Exception):  # noqa: N818  reads well where it is raised and caught
    """The error of one run, printed already: for the sweeper alone."""
