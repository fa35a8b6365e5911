"""A record of schema 1 is read as one of the present schema, and its files stay as they are."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from synthetic import HISTORY

from sns.record import store
from sns.record.migrate import migrated
from sns.record.schema import MEASURED, RECALIBRATED, SCHEMA_VERSION
from sns.train.configure import configure

OLD = [name for name in HISTORY if name != RECALIBRATED.name]  # it was not measured yet
SAMPLE = next((Path(__file__).parent / "schema1").iterdir())


def test_a_record_of_schema_1_is_read_in_full() -> None:
    old = json.loads((SAMPLE / "result.json").read_text())
    assert old["schema"] == 1
    record = store.read(SAMPLE)
    result = record.result
    assert (result.schema, result.task, result.optimizer) == (SCHEMA_VERSION, "classification", "nesterov")
    assert (result.score, result.high_is_good, result.columns) == ("test_accuracy", True, OLD)
    measured = [name for name in MEASURED if name != "recalibrated"]
    assert result.measured == {name: old.pop(name) for name in measured}
    assert {name: value for name, value in asdict(result).items() if name in old} == old | {"schema": SCHEMA_VERSION}
    assert record.history["test_accuracy"].iloc[-1] == result.final["test_accuracy"]


def test_its_configuration_has_todays_names_and_the_same_run_id() -> None:
    record = store.read(SAMPLE)
    assert record.config["experiment"] == {"name": "pocket"}
    assert record.config["task"] == {"name": "classification", "alpha": record.result.measured["alpha"]}
    assert "grid" not in record.config
    assert configure(record.config).run_id == SAMPLE.name == record.result.run_id


def test_reading_changes_no_file() -> None:
    before = {path.name: path.read_bytes() for path in SAMPLE.iterdir()}
    store.read(SAMPLE)
    assert {path.name: path.read_bytes() for path in SAMPLE.iterdir()} == before


@pytest.mark.parametrize("field", ["status", "alpha", "final"])
def test_a_field_that_schema_1_lacks_is_not_made_up(field: str) -> None:
    old = json.loads((SAMPLE / "result.json").read_text())
    del old[field]
    new = migrated(old)
    assert field not in new
    assert field not in new["measured"]
