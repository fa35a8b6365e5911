"""The options of a run that can change its result, and what tells the variants of a cell apart."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from sns.config.schema import Config, DataConfig
from sns.record.store import Record


def _free(cls: Any) -> set[str]:
    """The fields of a configuration dataclass that cannot change a result."""
    return {entry.name for entry in fields(cls) if entry.metadata.get("identity", True) in (False, "source")}


# What may differ between runs that are compared: whole sections or fields, then fields of sections.
FREE_TOP = _free(Config) | {"seed"}
FREE = {entry.name: _free(entry.default_factory) for entry in fields(Config) if is_dataclass(entry.default_factory)}
FREE["data"] = _free(DataConfig)


def options_of(record: Record) -> dict[str, Any]:
    """Dotted name and value of every option that can change the result, the seed apart."""
    return dict(_flat(record.config))


def _flat(tree: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for section, part in tree.items():
        if section in FREE_TOP:
            continue
        if isinstance(part, dict):
            yield from ((f"{section}.{k}", v) for k, v in part.items() if k not in FREE.get(section, ()))
        else:
            yield section, part


def differences(variants: Sequence[Record]) -> list[str]:
    """For one record of each variant of a cell: the options in which the variants differ, as on a
    command line, such as "optim.name=adam"; "" if there is only one variant."""
    options = [options_of(record) for record in variants]
    names = sorted({name for each in options for name in each})
    for each, record in zip(options, variants, strict=True):
        each["images"] = record.images
    names.append("images")
    differing = [name for name in names if len({repr(each.get(name)) for each in options}) > 1]
    # A choice by name changes many options: the name says it all.
    chosen = {name.partition(".")[0] for name in differing if name.endswith(".name")}
    shown = [name for name in differing if name.endswith(".name") or name.partition(".")[0] not in chosen]
    return [" ".join(f"{name}={each.get(name)}" for name in shown) for each in options]
