"""From a composed configuration tree to checked dataclasses, with one sentence for every
mistake."""

import copy
import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException, ValidationError

from sns.common.errors import ConfigError, first_line
from sns.config.old import renamed
from sns.config.schema import (
    BatchConfig,
    Config,
    ExperimentConfig,
    LaunchConfig,
    MeasureConfig,
    TrackConfig,
    TrainConfig,
    require,
)

PLANNER_KEYS = ("regimes",)  # read by interpolation in YAML only
SECTIONS: dict[str, type] = {  # sections whose fields are always the same
    "experiment": ExperimentConfig,
    "batch": BatchConfig,
    "train": TrainConfig,
    "measure": MeasureConfig,
    "launch": LaunchConfig,
    "track": TrackConfig,
}
CHOICES = ("task", "data", "model", "method", "optim")  # sections whose fields depend on their name
OPTIONAL = ("data", "model")  # a task may bring its own
Known = Mapping[str, Mapping[str, type]]  # for each of CHOICES: name -> dataclass of its options

TOP = dataclasses.make_dataclass(
    "TOP", [(f.name, f.type, f) for f in fields(Config) if f.name not in (*SECTIONS, *CHOICES)]
)


def parse(tree: Any, known: Known) -> Config:
    """A composed tree (DictConfig or nested dicts) as a checked Config.

    `known` maps each of CHOICES to its names and the dataclasses of their options. Raises
    ConfigError, one sentence, on an unknown key (with the nearest name), a wrong type, a missing
    value or an impossible combination.
    """
    try:
        node = tree if isinstance(tree, DictConfig) else OmegaConf.create(tree)
        plain = OmegaConf.to_container(node, resolve=True, throw_on_missing=False)
    except OmegaConfBaseException as error:
        raise ConfigError(f"the configuration cannot be resolved: {first_line(error)}") from None
    assert isinstance(plain, dict)
    values = renamed({str(key): value for key, value in plain.items() if key not in PLANNER_KEYS})
    _require_keys(values, known)
    chosen = {group: _choose(group, values.get(group), known[group]) for group in CHOICES}
    built: dict[str, Any] = {
        name: None if cls is None else checked(name, cls, values.get(name, {}))
        for name, cls in {**SECTIONS, **chosen}.items()
    }
    top = checked("", TOP, {key: value for key, value in values.items() if key not in built})
    return Config(**vars(top), **built)


def store_defaults() -> None:
    """Makes the defaults of the dataclasses known to Hydra as `defaults`, on which
    configs/config.yaml builds: a default is stated once, in its dataclass."""
    sections = {name: OmegaConf.to_container(OmegaConf.structured(cls)) for name, cls in SECTIONS.items()}
    top = OmegaConf.to_container(OmegaConf.structured(TOP))
    assert isinstance(top, dict)
    node = OmegaConf.create({**top, **sections, **{group: {} for group in CHOICES}})
    for group in CHOICES:
        # Their YAML files state only what differs from the dataclass. Other fields can be set on
        # the command line all the same; `parse` finds the misspelt ones.
        OmegaConf.set_struct(node[group], False)
    ConfigStore.instance().store("defaults", node)


store_defaults()


def checked(name: str, cls: type, values: Any) -> Any:
    """`values`, a mapping, as the dataclass `cls`. ConfigError names the key `<name>.<key>` that does
    not fit."""
    prefix = f"{name}." if name else ""
    require(isinstance(values, dict), f"{name}={values!r} must be a mapping of options")
    names = [entry.name for entry in fields(cls)]
    for field in values:
        require(field in names, f"there is no {prefix}{field}{nearest(field, names)}; {name}.* has {', '.join(names)}")
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


def _choose(group: str, values: Any, known: Mapping[str, type]) -> type | None:
    if not values and group in OPTIONAL:
        return None
    name = values.get("name") if isinstance(values, dict) else None
    if name not in known:
        hint = nearest(str(name), known)
        raise ConfigError(f"{group}.name={name} is unknown{hint}; choose one of {', '.join(sorted(known))}")
    return known[str(name)]


def _require_keys(values: Mapping[str, Any], known: Known) -> None:
    """ConfigError for the first key of the tree that nothing has."""
    top = {entry.name for entry in fields(Config)}
    for section, inside in values.items():
        require(section in top, unknown_key(section, known))
        if section in CHOICES and isinstance(inside, dict) and inside.get("name") in known[section]:
            names = {entry.name for entry in fields(known[section][inside["name"]])}
            for key in inside:
                require(key in names, unknown_key(f"{section}.{key}", known))


def unknown_key(key: str, known: Known, groups: Iterable[str] = ()) -> str:
    """One sentence about a key that a configuration does not have, with the nearest one that exists.
    `groups`: names of groups that are no sections."""
    section, _, option = key.rpartition(".")
    if section in CHOICES:
        owners = [name for name, cls in known[section].items() if option in {entry.name for entry in fields(cls)}]
        if owners:
            choices = ", ".join(f"{section}={name}" for name in owners)
            return f"{key} belongs to {choices}: name one of them on the command line too"
    keys = all_keys(known, groups)
    siblings = [name for name in keys if name.rpartition(".")[0] == section]
    where = f"{section}.* has" if section and siblings else "there are"
    choice = siblings or [name for name in keys if "." not in name]
    return f"there is no {key}{nearest(key, keys)}; {where} {', '.join(n.rpartition('.')[2] for n in choice)}"


def all_keys(known: Known, groups: Iterable[str] = ()) -> list[str]:
    """Everything that may stand before a `=`: groups, sections and their fields."""
    classes = [*SECTIONS.items(), *((section, cls) for section in CHOICES for cls in known[section].values())]
    inside = {f"{section}.{entry.name}" for section, cls in classes for entry in fields(cls)}
    return sorted(inside | {entry.name for entry in fields(Config)} | set(groups))


def nearest(name: str, names: Iterable[str]) -> str:
    """` (did you mean ...?)`, or nothing where nothing is near.

    The right word in a wrong section counts as near, and so does the beginning of a word.
    """
    words, last = list(names), name.rpartition(".")[2]
    close = difflib.get_close_matches(name, words, n=1)
    close = close or [word for word in words if word.rpartition(".")[2] == last]
    close = (close or [word for word in words if word.startswith(name)])[:1]
    return f" (did you mean {close[0]}?)" if close else ""


def _key(error: Exception) -> str:
    return str(getattr(error, "full_key", None) or getattr(error, "key", None) or "?")
