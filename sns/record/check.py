"""Whether the content of a result.json is what `Result` declares, at every depth."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from typing_extensions import TypedDict  # typing.TypedDict does not do for pydantic before Python 3.12

from sns.common.errors import RecordError
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


NARROWER: dict[str, Any] = {  # than `Result` declares, where readers rely on more
    "final": Row,
    "best": Row,
    "dose": _Dose,
    "timings": _Timings,
    "memory": _Memory,
    "environment": _Environment,
}
ACCURACIES = ("train_accuracy", "test_accuracy", "gap")  # what readers need of a finished classification run


@cache
def _model(classification: bool) -> Any:
    from pydantic import ConfigDict, create_model  # imported where a record is read: status does without

    strict = ConfigDict(strict=True, allow_inf_nan=False)
    for kind in (_Dose, _Timings, _Memory, _Environment, _Measured):
        setattr(kind, "__pydantic_config__", strict | ConfigDict(extra="allow"))  # noqa: B010
    hints = get_type_hints(Result) | NARROWER | ({"measured": _Measured} if classification else {})
    fields: dict[str, Any] = {f"{name}_": (hint, ...) for name, hint in hints.items()}
    return create_model("Result", __config__=strict | ConfigDict(extra="forbid"), **fields)


def check(file: Path, content: Mapping[str, Any]) -> Result:
    """`content` of the file result.json as a Result.

    Raises RecordError that names the first field (a dotted path) which is missing, unknown or of a
    wrong type. Numbers inside mappings may be null: those that were not finite are written so.
    """
    from pydantic import ValidationError

    model = _model(content.get("task") == "classification")
    try:
        model.model_validate({f"{name}_": value for name, value in content.items()})
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        field, *inside = fault["loc"]
        where = ".".join([str(field)[:-1], *map(str, inside)])
        raise RecordError(f"{file} is damaged ({where}: {fault['msg']})") from None
    result = Result(**content)
    lacking = _lacking(result)
    if lacking is not None:
        raise RecordError(f"{file} is damaged ({lacking} of a finished run has no value)")
    return result


def _lacking(result: Result) -> str | None:
    """The first number that a finished run must have and this one has not."""
    if result.status != "ok":
        return None
    names = ACCURACIES if result.task == "classification" else (result.score,)
    rows = {"final": result.final, "best": result.best}
    return next((f"{row}.{name}" for row, values in rows.items() for name in names if values.get(name) is None), None)
