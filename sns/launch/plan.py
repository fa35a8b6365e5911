"""The runs of a grid and how far each has come, without starting any."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser

from sns.common.errors import ConfigError, RecordError
from sns.config.schema import Config
from sns.record import store
from sns.train import checkpoint
from sns.train.configure import configure


@dataclass(frozen=True)
class Planned:
    """One run of the grid. state: done | diverged | failed | begun | to do | damaged; seconds: what
    it took, if it is over.
    """

    config: Config
    state: str
    seconds: float | None


def expand(overrides: Sequence[str]) -> list[Config]:
    """Every run that `train.py -m <overrides>` would train, in the same order.

    Hydra must be initialised on configs/. Seeds are filled in rather than composed, since composing
    costs most.
    """
    params = _sweep(overrides)
    fixed = [text for text in overrides if text.split("=")[0].lstrip("+~") not in params]
    seeds = params.pop("seed", None)
    configs: list[Config] = []
    for values in itertools.product(*params.values()):
        chosen = [f"{key}={value}" for key, value in zip(params, values, strict=True)]
        cell = configure(compose("config", overrides=[*fixed, *chosen]))
        configs += [cell] if seeds is None else [dataclasses.replace(cell, seed=_whole(seed)) for seed in seeds]
    return configs


def _whole(seed: str) -> int:
    try:
        return int(seed)
    except ValueError:
        raise ConfigError(f"seed={seed} is not a whole number") from None


def _sweep(overrides: Sequence[str]) -> dict[str, list[str]]:
    """Swept keys and their values: the experiment's hydra.sweeper.params, then the command line,
    which wins."""
    tree = compose("config", overrides=[t for t in overrides if not _is_sweep(t)], return_hydra_config=True)
    params: Mapping[str, Any] = tree.hydra.sweeper.params or {}
    found = {str(key): _values(f"{key}={value}") for key, value in params.items()}
    for text in overrides:
        key = text.split("=")[0].lstrip("+~")
        if key in found or _is_sweep(text):
            found[key] = _values(text)
    return found


def _is_sweep(text: str) -> bool:
    return bool(OverridesParser.create().parse_override(text).is_sweep_override())


def _values(text: str) -> list[str]:
    override = OverridesParser.create().parse_override(text)
    if override.is_sweep_override():
        return [str(value) for value in override.sweep_string_iterator()]
    return [override.get_value_string()]


def state_of(config: Config) -> Planned:
    """How far this run has come, judged by its own directory."""
    directory = config.directory
    if store.is_finished(directory):
        try:
            result = store.read(directory).result
        except RecordError:
            return Planned(config, "damaged", None)
        seconds = result.timings["train_seconds"] + result.timings["measure_seconds"]
        return Planned(config, "done" if result.status == "ok" else result.status, seconds)
    return Planned(config, "begun" if checkpoint.exists(directory) else "to do", None)


def remaining(plan: Sequence[Planned], estimate: Callable[[Config], float]) -> dict[str, float]:
    """Seconds that each run which is not over will take, by run_id: what its finished siblings
    took, else `estimate`.
    """
    taken: dict[tuple[str, str, str], list[float]] = {}
    for item in plan:
        if item.seconds is not None and item.state == "done":
            taken.setdefault(_kind(item.config), []).append(item.seconds)
    left: dict[str, float] = {}
    guessed: dict[tuple[str, str, str], float] = {}
    for item in plan:
        if item.state not in ("begun", "to do", "damaged"):
            continue
        kind = _kind(item.config)
        if kind in taken:
            left[item.config.run_id] = sum(taken[kind]) / len(taken[kind])
        else:
            if kind not in guessed:
                guessed[kind] = estimate(item.config)
            left[item.config.run_id] = guessed[kind]
    return left


def _kind(config: Config) -> tuple[str, str, str]:
    return config.setting, config.method.name, config.variant
