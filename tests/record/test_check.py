"""Every field of result.json has its declared type, or is refused by name."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from synthetic import write_run

from sns.analysis.cells import load_experiment
from sns.analysis.report import page as report
from sns.analysis.table1 import table as table1
from sns.common.errors import RecordError
from sns.record import store
from sns.record.schema import Result

TYPES = get_type_hints(Result)
FIELDS = [field.name for field in fields(Result) if field.name != "schema"]  # which says what it is before all else
NULLABLE = {name for name in FIELDS if type(None) in getattr(TYPES[name], "__args__", ())}
TEXT = {
    "run_id",
    "experiment",
    "reason",
    "task",
    "setting",
    "method",
    "optimizer",
    "regime",
    "variant",
    "score",
    "command",
}  # not status: a choice
MAY_BE_EMPTY = {"measured", "environment"}
WRONG: list[Any] = [None, "x", {}, [1], True]
DEEP = [
    ("final", {"gap": "x"}),
    ("final", {"gap": None}),
    ("best", {"test_accuracy": [1]}),
    ("dose", {"e_folds": "x"}),
    ("timings", {"train_seconds": None}),
    ("timings", {"train_seconds": True}),
    ("memory", {"peak_bytes": "x"}),
    ("measured", {"hessian": {"a": [1]}}),
    ("measured", {"hessian": {"train": {"eigenvalue": "x"}}}),
    ("measured", {"lipschitz": {"product_sigma": "x"}}),
    ("measured", {"gradient_quantiles": {"train": 1.0}}),
    ("measured", {"gradient_quantiles": {"train": {"0.5": "x"}}}),
    ("environment", {"data": "x"}),
    ("environment", {"device": [1]}),
]


def allowed(name: str, value: Any) -> bool:
    return (
        (value is None and name in NULLABLE)
        or (value == "x" and name in TEXT)
        or (value == {} and name in MAY_BE_EMPTY)
        or (value is True and name == "high_is_good")
    )


CASES = [(name, value) for name in FIELDS for value in WRONG if not allowed(name, value)]


def damage(directory: Path, name: str, value: Any) -> None:
    file = directory / store.RESULT
    content = json.loads(file.read_text())
    content[name] = value
    file.write_text(json.dumps(content))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs"), "vgg_cifar10", "spectral")


def refused_by_name(directory: Path, name: str, value: Any) -> None:
    original = (directory / store.RESULT).read_text()
    try:
        damage(directory, name, value)
        with pytest.raises(RecordError, match=rf"result\.json .*\b{name}\b") as caught:
            store.read(directory)
        assert "\n" not in str(caught.value)
    finally:
        (directory / store.RESULT).write_text(original)


@pytest.mark.parametrize(("name", "value"), CASES, ids=str)
def test_a_wrong_type_is_refused_by_name(directory: Path, name: str, value: Any) -> None:
    refused_by_name(directory, name, value)


@pytest.mark.parametrize(("name", "inside"), DEEP, ids=str)
def test_a_wrong_type_inside_a_field_is_refused_by_name(directory: Path, name: str, inside: dict[str, Any]) -> None:
    whole = json.loads((directory / store.RESULT).read_text())[name]
    refused_by_name(directory, name, whole | inside)


@pytest.mark.parametrize("status", ["ok", "diverged"])
def test_sound_records_are_read(tmp_path: Path, status: str) -> None:
    assert store.read(write_run(tmp_path, status=status)).result.status == status


@pytest.mark.parametrize("name", sorted(NULLABLE))
def test_null_is_read_where_it_may_stand(tmp_path: Path, name: str) -> None:
    written = write_run(tmp_path)
    damage(written, name, None)
    assert getattr(store.read(written).result, name) is None


@pytest.mark.parametrize("content", [b"a: [1", b"- 1\n", b"", b"\xff\xfe\x00"])
def test_a_damaged_configuration_is_named_and_the_analysis_survives_it(tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "results" / "runs" / "toy"
    written = write_run(folder)
    (written / store.CONFIG).write_bytes(content)
    record = store.read(written)  # needs no configuration
    with pytest.raises(RecordError, match=r"config\.yaml is damaged"):
        _ = record.config
    _, results = load_experiment(tmp_path / "results", None)
    assert len(table1.compute(results)) > 0
    assert report.write(results, "toy", tmp_path / "report.html") > 0


def test_a_damaged_record_is_left_out_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "results" / "runs" / "toy"
    write_run(folder)
    damage(write_run(folder, seed=1), "timings", "x")
    _, results = load_experiment(tmp_path / "results", None)
    assert any("timings" in warning for warning in results.warnings)
    assert report.write(results, "toy", tmp_path / "report.html") > 0
