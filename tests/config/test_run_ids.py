"""The run_id of every committed record follows from its config.yaml: no code change renames one."""

import json
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from sns.train.configure import configure

RECORDS = sorted((ROOT / "results/runs").rglob("result.json"))


def test_there_are_records() -> None:
    assert len(RECORDS) > 100


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.parent.name)
def test_run_id_and_variant_follow_from_the_configuration(record: Path) -> None:
    config = configure(yaml.safe_load((record.parent / "config.yaml").read_text()))
    stated = json.loads(record.read_text())
    assert config.run_id == record.parent.name == stated["run_id"]
    assert config.variant == stated["variant"]
    assert config.experiment.name == stated["experiment"]
