"""Checks that the content of a result.json has the types that `Result` declares, at every depth."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from typing_extensions import TypedDict  # pydantic cannot use typing.TypedDict before Python 3.12

from sns.record.faults import damaged
from sns.record.schema import Result

Row = dict[str, float | None]  # numbers that were not finite are written as null


class _Dose(TypedDict):
    learning_rate_sum: float | None
    e_folds: float | None


class _Timings(TypedDict):
    train_seconds: float
    measure_seconds: float


class _Memory(TypedDict):
    peak_bytes: float | None
    peak_host_bytes: float | None


class _Environment(TypedDict, total=False):
    commit: str | None
    device: str | None
    data: dict[str, Any] | None


class _Measured(TypedDict, total=False):
    alpha: float | None
    gap_at_alpha: float | None
    gap_at_alpha_epoch: float | None
    gradient_quantiles: dict[str, Row] | None
    hessian: dict[str, dict[str, float | bool | None]] | None
    lipschitz: Row | None


NARROWER: dict[str, Any] = {  # types narrower than those of `Result`, where readers need them
    "final": Row,
    "best": Row,
    "dose": _Dose,
    "timings": _Timings,
    "memory": _Memory,
    "environment": _Environment,
}
ACCURACIES = ("train_accuracy", "test_accuracy", "gap")  # numbers that a finished classification run must have


@cache
def _model(classification: bool) -> Any:
    from pydantic import ConfigDict, create_model  # slow to import, and not needed before a record is read

    strict = ConfigDict(strict=True, allow_inf_nan=False)
    for kind in (_Dose, _Timings, _Memory, _Environment, _Measured):
        setattr(kind, "__pydantic_config__", strict | ConfigDict(extra="allow"))  # noqa: B010
    hints = get_type_hints(Result) | NARROWER | ({"measured": _Measured} if classification else {})
    fields: dict[str, Any] = {f"{name}_": (hint, ...) for name, hint in hints.items()}
    return create_model("Result", __config__=strict | ConfigDict(extra="forbid"), **fields)


def check(file: Path, content: Mapping[str, Any]) -> Result:
    """`content` of the file result.json as a Result.

    RecordError names the first field, as a dotted path, that is missing, unknown or of a wrong
    type. Numbers inside mappings may be null, since a number that is not finite is written as null.
    """
    from pydantic import ValidationError

    model = _model(content.get("task") == "classification")
    try:
        model.model_validate({f"{name}_": value for name, value in content.items()})
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        field, *inside = fault["loc"]
        where = ".".join([str(field)[:-1], *map(str, inside)])
        raise damaged(file, f"{where}: {fault['msg']}") from None
    result = Result(**content)
    lacking = _lacking(result)
    if lacking is not None:
        raise damaged(file, f"{lacking} of a finished run has no value")
    return result


def _lacking(result: Result) -> str | None:
    """The name of the first number that a finished run must have and `result` lacks, or None."""
    if result.status != "ok":
        return None
    names = ACCURACIES if result.task == "classification" else (result.score,)
    rows = {"final": result.final, "best": result.best}
    return next((f"{row}.{name}" for row, values in rows.items() for name in names if values.get(name) is None), None)
