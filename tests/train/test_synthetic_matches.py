"""The records that tests/synthetic.py writes have the keys and columns of a real run's record."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from conftest import TINY, compose_tree
from synthetic import write_run

from sns.record import store
from sns.train.configure import configure
from sns.train.run import run

Directories = tuple[Path, Path]


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> Directories:
    """The directories of a trained run and of a synthetic one with the same configuration."""
    overrides = [*TINY, f"results={tmp_path_factory.mktemp('real')}", "method=spectral", "task.alpha=0.0"]
    config = configure(compose_tree(*overrides))
    run(config, "the command")
    synthetic = write_run(tmp_path_factory.mktemp("synthetic"), "digits_vgg", "spectral", alpha=0.0)
    return config.directory, synthetic


def shape(value: Any, path: str = "") -> dict[str, str]:
    """{dotted path of a key: kind of its value}, at every depth."""
    if isinstance(value, dict):
        kinds = {path: "object"}
        for key, entry in value.items():
            kinds |= shape(entry, f"{path}.{key}".lstrip("."))
        return kinds
    kind = "bool" if isinstance(value, bool) else "number" if isinstance(value, (int, float)) else type(value).__name__
    return {path: kind}


def assert_same_shape(real: dict[str, Any], synthetic: dict[str, Any]) -> None:
    """Equal keys at every depth, and equal kinds unless one value is None."""
    first, second = shape(real), shape(synthetic)
    assert first.keys() == second.keys()
    differ = {key for key in first if first[key] != second[key] and "NoneType" not in (first[key], second[key])}
    assert differ == set()


def test_result_json_has_the_same_keys(directories: Directories) -> None:
    real, synthetic = (json.loads((folder / store.RESULT).read_text()) for folder in directories)
    assert {"measured.lipschitz.product_sigma", "measured.hessian.test.eigenvalue", "timings.train_seconds"} <= shape(
        real
    ).keys()
    assert_same_shape(real, synthetic)


def test_config_yaml_has_the_same_keys(directories: Directories) -> None:
    """Except for the options of model and method, for which synthetic runs have stand-ins."""
    real, synthetic = (yaml.safe_load((folder / store.CONFIG).read_text()) for folder in directories)
    for config in (real, synthetic):
        for part in ("model", "method"):
            config[part] = config[part]["name"]
    assert_same_shape(real, synthetic)


@pytest.mark.parametrize("name", [store.HISTORY_CSV, store.LAYERS_CSV, store.SPECTRA_CSV])
def test_tables_have_the_same_columns(directories: Directories, name: str) -> None:
    real, synthetic = (pd.read_csv(folder / name) for folder in directories)
    assert list(real.columns) == list(synthetic.columns)
    numeric = [[kind.kind in "fiu" for kind in frame.dtypes] for frame in (real, synthetic)]
    assert numeric[0] == numeric[1]
