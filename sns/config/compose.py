"""From a composed configuration tree to checked dataclasses, with one sentence for whatever is
wrong in it."""

import copy
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException, ValidationError

from sns.common.errors import ConfigError, first_line
from sns.config.schema import (
    BatchConfig,
    Config,
    DataConfig,
    ExperimentConfig,
    LaunchConfig,
    MeasureConfig,
    OptimConfig,
    TrackConfig,
    TrainConfig,
    require,
)

PLANNER_KEYS = ("regimes",)  # read by interpolation in YAML only
SECTIONS: dict[str, type] = {
    "data": DataConfig,
    "batch": BatchConfig,
    "optim": OptimConfig,
    "train": TrainConfig,
    "measure": MeasureConfig,
    "launch": LaunchConfig,
    "track": TrackConfig,
    "experiment": ExperimentConfig,
}


def parse(tree: Any, models: Mapping[str, type], methods: Mapping[str, type]) -> Config:
    """A composed tree (DictConfig or nested dicts) as a checked Config.

    `models` and `methods` map a name to the dataclass of its options. Raises ConfigError, one
    sentence, on an unknown key (with the nearest name), a wrong type, a missing value or an
    impossible combination.
    """
    try:
        node = tree if isinstance(tree, DictConfig) else OmegaConf.create(tree)
        plain = OmegaConf.to_container(node, resolve=True, throw_on_missing=False)
    except OmegaConfBaseException as error:
        raise ConfigError(f"the configuration cannot be resolved: {first_line(error)}") from None
    assert isinstance(plain, dict)
    values = {str(key): value for key, value in plain.items() if key not in PLANNER_KEYS}
    if "grid" in values:  # the name of this field in records of schema 1
        values["experiment"] = {"name": values.pop("grid")}
    _known_keys(values, {entry.name for entry in fields(Config)}, "")
    sections: dict[str, type] = {
        **SECTIONS,
        "model": _choose("model", values.get("model"), models),
        "method": _choose("method", values.get("method"), methods),
    }
    built: dict[str, Any] = {name: _section(name, cls, values.pop(name, {})) for name, cls in sections.items()}
    top = _section("", TopConfig, values)
    return Config(**vars(top), **built)


def checked(name: str, cls: type, values: Any) -> Any:
    """`values`, a mapping, as the dataclass `cls`; ConfigError names the key `<name>.<key>` that
    does not fit."""
    return _section(name, cls, values)


@dataclass
class TopConfig:
    """What stands outside the sections."""

    setting: str = MISSING
    results: str = "results"
    seed: int = 0
    alpha: float | None = None


def _choose(group: str, values: Any, known: Mapping[str, type]) -> type:
    name = values.get("name") if isinstance(values, dict) else None
    if name not in known:
        hint = _nearest(str(name), known)
        raise ConfigError(f"{group}.name={name} is unknown{hint}; choose one of {', '.join(sorted(known))}")
    return known[str(name)]


def _nearest(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _known_keys(values: Mapping[str, Any], known: set[str], prefix: str) -> None:
    for key in values:
        if key not in known:
            raise ConfigError(f"unknown key {prefix}{key}{_nearest(key, known)}; known: {', '.join(sorted(known))}")


def _section(name: str, cls: type, values: Any) -> Any:
    prefix = f"{name}." if name else ""
    require(isinstance(values, dict), f"{name}={values!r} must be a mapping of options")
    if "grid" in values:  # the name of this field in records of schema 1
        values["experiment"] = {"name": values.pop("grid")}
    _known_keys(values, {entry.name for entry in fields(cls)}, prefix)
    key = name, cls, repr(values)
    if key not in _built:
        _built[key] = _build(prefix, cls, values)
    return copy.deepcopy(_built[key])


_built: dict[tuple[str, type, str], Any] = {}  # most sections are the same in most runs of a sweep


def _build(prefix: str, cls: type, values: Any) -> Any:
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(cls), values))
    except MissingMandatoryValue as error:
        raise ConfigError(
            f"{prefix}{_key(error)} has no value: set it on the command line or in its YAML file"
        ) from None
    except (ValidationError, ConfigKeyError, OmegaConfBaseException) as error:
        raise ConfigError(f"{prefix}{_key(error)} has a wrong value: {first_line(error)}") from None


def _key(error: Exception) -> str:
    return str(getattr(error, "full_key", None) or getattr(error, "key", None) or "?")
