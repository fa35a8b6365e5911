"""Whether the content of a result.json is what `Result` declares, at every depth."""

import math
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from sns.common.errors import RecordError
from sns.record.schema import Result

TYPES: dict[str, Any] = get_type_hints(Result) | {  # narrower than declared, where readers rely on more
    "hessian": dict[str, dict[str, float | bool]] | None,
}
ENVIRONMENT: dict[str, Any] = {"commit": str | None, "device": str | None, "data": dict[str, Any] | None}
MEASURED = ("train_accuracy", "test_accuracy", "gap")
NEEDED = {
    "dose": ("learning_rate_sum", "e_folds"),
    "timings": ("train_seconds", "measure_seconds"),
    "memory": ("peak_bytes", "peak_host_bytes"),
}
NUMBERS_NEEDED = {"timings": NEEDED["timings"]}
KINDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", dict: "a mapping"}


def check_types(file: Path, content: Mapping[str, Any]) -> None:
    """Raises RecordError, naming the first field of result.json (a dotted path) that has a wrong
    type or lacks a key.

    Numbers inside mappings may be null: those that were not finite are written so. `content` has
    every field.
    """
    fault = next((f for name in TYPES if (f := _fault(name, content[name], TYPES[name])) is not None), None)
    fault = fault or _missing(content)
    if fault is not None:
        raise RecordError(f"{file} is damaged ({fault}): delete the run directory and run the cell again")


def _missing(content: Mapping[str, Any]) -> str | None:
    """What is absent, or of a wrong type in what the types leave open."""
    row = dict.fromkeys(("final", "best"), MEASURED) if content["status"] == "ok" else {}
    for name, keys in {**NEEDED, **row}.items():
        for key in keys:
            if key not in content[name]:
                return f"{name} lacks {key}"
    for name, keys in {**NUMBERS_NEEDED, **row}.items():
        for key in keys:
            if content[name][key] is None:
                return f"{name}.{key} is null where a number belongs"
    environment = content["environment"]
    faults = (_fault(f"environment.{key}", environment.get(key), hint) for key, hint in ENVIRONMENT.items())
    return next((fault for fault in faults if fault is not None), None)


def _fault(path: str, value: Any, hint: Any) -> str | None:
    """Where and how `value` departs from the type `hint`; None if it does not."""
    choices = get_args(hint) if get_origin(hint) is UnionType else (hint,)
    faults = [_misfit(path, value, choice) for choice in choices]
    return None if None in faults else faults[0]


def _misfit(path: str, value: Any, kind: Any) -> str | None:
    if kind is Any or (kind is type(None) and value is None):
        return None
    if get_origin(kind) is dict and isinstance(value, dict):
        entry = get_args(kind)[1]
        nullable = entry if get_origin(entry) is dict or entry is Any else entry | None
        faults = (_fault(f"{path}.{key}", inner, nullable) for key, inner in value.items())
        return next((fault for fault in faults if fault is not None), None)
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return None
    if kind in (int, str, bool) and type(value) is kind:
        return None
    return f"{path} is {_shown(value)} where {KINDS.get(get_origin(kind) or kind, 'null')} belongs"


def _shown(value: Any) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
