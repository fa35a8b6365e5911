"""The runs of a sweep, how far each has come, and the time left, without starting any."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sns.config.schema import Config
from sns.launch import slurm
from sns.record.state import RunState, state_of


@dataclass(frozen=True)
class PlannedRun:
    """One run of the sweep and its state."""

    config: Config
    state: RunState

    @property
    def seconds(self) -> float | None:
        """What training and measuring took, if the run is finished."""
        result = self.state.result
        return None if result is None else result.timings["train_seconds"] + result.timings["measure_seconds"]


def planned(configs: Sequence[Config]) -> list[PlannedRun]:
    """Each run with its state."""
    jobs = slurm.queued(*{config.directory.parent for config in configs})
    return [
        PlannedRun(config, state_of(config.directory, config.launch.retries, jobs.get(config.run_id, "")))
        for config in configs
    ]


def remaining(runs: Sequence[PlannedRun], estimate: Callable[[Config], float | None]) -> dict[str, float | None]:
    """Seconds that each unfinished run will take, by run_id; None if unknown.

    The mean of its finished siblings (runs that differ in the seed alone), else `estimate`.
    """
    taken: dict[tuple[str, str, str], list[float]] = {}
    for run in runs:
        if run.seconds is not None and run.state.name == "done":
            taken.setdefault(_kind(run.config), []).append(run.seconds)
    expected: dict[tuple[str, str, str], float | None] = {kind: sum(t) / len(t) for kind, t in taken.items()}
    left: dict[str, float | None] = {}
    for run in runs:
        if run.state.retry or run.state.pending:
            kind = _kind(run.config)
            if kind not in expected:
                expected[kind] = estimate(run.config)
            left[run.config.run_id] = expected[kind]
    return left


def _kind(config: Config) -> tuple[str, str, str]:
    return config.setting, config.method.name, config.variant
