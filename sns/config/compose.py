"""From a composed configuration tree to checked dataclasses; one sentence for a mistake."""

import copy
import dataclasses
import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
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

# Top-level keys that only other YAML values refer to.
YAML_ONLY = ("regimes", "candidates", "candidate", "strengths", "rates", "tables")
STRENGTH = "strength"  # a key that sets an option of the method, see `_set_strength`
UNCHOSEN = "unchosen"  # in place of a strength that an experiment has to choose first
SECTIONS: dict[str, type] = {  # sections with fixed fields
    "experiment": ExperimentConfig,
    "batch": BatchConfig,
    "train": TrainConfig,
    "measure": MeasureConfig,
    "launch": LaunchConfig,
    "track": TrackConfig,
}
CHOICES = ("task", "data", "model", "method", "optim")  # sections whose fields depend on their `name`
LARGEST = 2**53  # integers up to it are exact as float64 too
OPTIONAL = ("data", "model")  # a task may define its own
Registered = Mapping[str, Mapping[str, type]]  # for each of CHOICES: name -> dataclass of its options

TOP = dataclasses.make_dataclass(
    "TOP", [(f.name, f.type, f) for f in fields(Config) if f.name not in (*SECTIONS, *CHOICES)]
)


def parse(tree: Any, registered: Registered) -> Config:
    """A composed tree (DictConfig or nested dicts) as a checked Config.

    Raises ConfigError, one sentence, for an unknown key (with the nearest name), a wrong type, a
    missing value or an impossible combination.
    """
    try:
        node = tree if isinstance(tree, DictConfig) else OmegaConf.create(tree)
        plain = OmegaConf.to_container(node, resolve=True, throw_on_missing=False)
    except OmegaConfBaseException as error:
        raise ConfigError(f"the configuration cannot be resolved: {first_line(error)}") from None
    assert isinstance(plain, dict)
    values = renamed({str(key): value for key, value in plain.items() if key not in YAML_ONLY})
    _set_strength(values, registered["method"])
    _require_keys(values, registered)
    chosen = {group: _choose(group, values.get(group), registered[group]) for group in CHOICES}
    built: dict[str, Any] = {
        name: None if cls is None else checked(name, cls, values.get(name, {}))
        for name, cls in {**SECTIONS, **chosen}.items()
    }
    _require_used_scale(built["method"], node)
    top = checked("", TOP, {key: value for key, value in values.items() if key not in built})
    return Config(**vars(top), **built)


def _set_strength(values: dict[str, Any], methods: Mapping[str, type]) -> None:
    """`strength=X` sets the option that says how strong the chosen method is, whatever its name.

    A class of options names it as `strength`. ConfigError for a method that has none, and for
    UNCHOSEN where the method has one.
    """
    strength, options = values.pop(STRENGTH, None), values.get("method")
    if strength is None or not isinstance(options, dict):
        return
    name = str(options.get("name"))
    option = getattr(methods.get(name), STRENGTH, None)
    if strength == UNCHOSEN and option is None:
        return
    require(
        strength != UNCHOSEN,
        f"method={name} has no strength here yet: tune it and choose one with scripts/bakeoff.py",
    )
    require(option is not None, f"strength={strength} has no meaning for method={name}, which has no strength")
    values["method"] = {**options, str(option): strength}


def _require_used_scale(method: Any, node: DictConfig) -> None:
    """ConfigError for a `method.scale` of the user's, which `method.dose` would leave unused.

    A setting's own, its dose_factor, gives way: the method's YAML file refers to it by name.
    """
    if getattr(method, "dose", None) is None:
        return
    written = OmegaConf.to_container(node.method, resolve=False)
    assert isinstance(written, dict)
    scale = written.get("scale", 1.0)  # 1: also in the records of such runs
    of_setting = isinstance(scale, str) and "dose_factor" in scale
    require(
        of_setting or float(node.method.get("scale", 1.0)) == 1.0,
        f"method.scale={node.method.get('scale')} and method.dose={method.dose} exclude each other",
    )


def store_defaults() -> None:
    """Gives Hydra the dataclasses' defaults as the config `defaults`, used by configs/config.yaml.

    A default is thus stated once, in its dataclass.
    """
    sections = {name: OmegaConf.to_container(OmegaConf.structured(cls)) for name, cls in SECTIONS.items()}
    top = OmegaConf.to_container(OmegaConf.structured(TOP))
    assert isinstance(top, dict)
    node = OmegaConf.create({**top, **sections, **{group: {} for group in CHOICES}, STRENGTH: None})
    for group in CHOICES:
        # YAML files state only what differs from the dataclass. Without struct mode, Hydra accepts
        # the other fields on the command line too; `parse` reports misspelt ones.
        OmegaConf.set_struct(node[group], False)
    ConfigStore.instance().store("defaults", node)
    free = OmegaConf.create({"options": {}})  # of sbatch: any key
    OmegaConf.set_struct(free.options, False)
    ConfigStore.instance().store("sbatch_options", free, group="hydra/launcher")


store_defaults()


def checked(name: str, cls: type, values: Any) -> Any:
    """`values`, a mapping, as the dataclass `cls`. ConfigError names a wrong key in full."""
    prefix = f"{name}." if name else ""
    require(isinstance(values, dict), f"{name}={values!r} must be a mapping of options")
    names = [entry.name for entry in fields(cls)]
    wrong = next((str(field) for field in values if field not in names), None)
    if wrong is not None:  # the nearest name is looked for here only: it takes a tenth of a sweep's expansion
        raise ConfigError(f"there is no {prefix}{wrong}{nearest(wrong, names)}; {name}.* has {', '.join(names)}")
    key = name, cls, repr(values)
    if key not in _built:
        _built[key] = _build(prefix, cls, values)
    return copy.deepcopy(_built[key])


_built: dict[tuple[str, type, str], Any] = {}  # a cache: most sections are equal in most runs of a sweep


def _build(prefix: str, cls: type, values: Any) -> Any:
    _require_numbers(prefix.removesuffix("."), values)  # before an integer is made a float, which may fail
    try:
        merged = OmegaConf.merge(OmegaConf.structured(cls), values)
        _require_numbers(prefix.removesuffix("."), OmegaConf.to_container(merged))
        return OmegaConf.to_object(merged)
    except MissingMandatoryValue as error:
        raise ConfigError(
            f"{prefix}{_key(error)} has no value: set it on the command line or in its YAML file"
        ) from None
    except (ValidationError, ConfigKeyError, OmegaConfBaseException) as error:
        raise ConfigError(f"{prefix}{_key(error)} has a wrong value: {first_line(error)}") from None


def _require_numbers(name: str, value: Any) -> None:
    """ConfigError for infinity, NaN or an integer beyond 64 bits, at any depth of `value`."""
    if isinstance(value, dict):
        for key, inside in value.items():
            _require_numbers(f"{name}.{key}".removeprefix("."), inside)
    elif isinstance(value, list):
        for inside in value:
            _require_numbers(name, inside)
    elif isinstance(value, int | float):
        require(isinstance(value, int) or math.isfinite(value), f"{name}={value} must be a finite number")
        require(abs(value) <= LARGEST, f"{name}={str(value)[:20]} is too large: at most {LARGEST}")


def _choose(group: str, values: Any, registered: Mapping[str, type]) -> type | None:
    if not values and group in OPTIONAL:
        return None
    name = values.get("name") if isinstance(values, dict) else None
    if not isinstance(name, str) or name not in registered:
        hint = nearest(str(name), registered)
        raise ConfigError(f"{group}.name={name} is unknown{hint}; choose one of {', '.join(sorted(registered))}")
    return registered[name]


def _require_keys(values: Mapping[str, Any], registered: Registered) -> None:
    """ConfigError for the first key of the tree that does not exist."""
    top = {entry.name for entry in fields(Config)}
    for section, inside in values.items():
        if section not in top:
            raise ConfigError(unknown_key(section, registered))
        if section in CHOICES and isinstance(inside, dict) and inside.get("name") in list(registered[section]):
            names = {entry.name for entry in fields(registered[section][inside["name"]])}
            for key in [key for key in inside if key not in names]:
                raise ConfigError(unknown_key(f"{section}.{key}", registered, siblings=sorted(names)))


def unknown_key(key: str, registered: Registered, groups: Iterable[str] = (), siblings: Sequence[str] = ()) -> str:
    """One sentence about a key that does not exist, with the nearest one that does.

    `groups`: names of config groups that are not sections. `siblings`: the options of the section
    as it was chosen, if that is known.
    """
    section, _, option = key.rpartition(".")
    if section in CHOICES:
        owners = [name for name, cls in registered[section].items() if option in {entry.name for entry in fields(cls)}]
        if owners:
            choices = ", ".join(f"{section}={name}" for name in owners)
            return f"{key} belongs to {choices}: name one of them on the command line too"
    keys = all_keys(registered, groups)
    if key in keys:
        return f"{key} cannot be chosen here: this setting's task brings its own"
    siblings = siblings or [name for name in keys if name.rpartition(".")[0] == section]
    where = f"{section}.* has" if section and siblings else "there are"
    choice = siblings or [name for name in keys if "." not in name]
    return f"there is no {key}{nearest(key, keys)}; {where} {', '.join(n.rpartition('.')[2] for n in choice)}"


def all_keys(registered: Registered, groups: Iterable[str] = ()) -> list[str]:
    """Everything that may stand before a `=` on the command line: groups, sections, fields."""
    classes = [*SECTIONS.items(), *((section, cls) for section in CHOICES for cls in registered[section].values())]
    inside = {f"{section}.{entry.name}" for section, cls in classes for entry in fields(cls)}
    return sorted(inside | {entry.name for entry in fields(Config)} | {STRENGTH, *groups})


def nearest(name: str, names: Iterable[str]) -> str:
    """` (did you mean ...?)` with the nearest of `names`, or an empty text.

    The right word in a wrong section counts as near, and so does the beginning of a word.
    """
    words, last = list(names), name.rpartition(".")[2]
    close = difflib.get_close_matches(name, words, n=1)
    close = close or [word for word in words if word.rpartition(".")[2] == last]
    close = (close or [word for word in words if word.startswith(name)])[:1]
    return f" (did you mean {close[0]}?)" if close else ""


def _key(error: Exception) -> str:
    return str(getattr(error, "full_key", None) or getattr(error, "key", None) or "?")
