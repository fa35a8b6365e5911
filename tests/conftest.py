"""Shared fixtures: the repository, composed configurations, a run that trains in a second."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from stand_in import StandIn, switch_on

from sns.common import accelerator
from sns.config.schema import Config
from sns.train import stop as signals
from sns.train.configure import configure

ROOT = Path(__file__).resolve().parents[1]
TINY = [
    "setting=digits_vgg",
    "model.widths=[[4],[4],[4]]",
    "model.dropout=[[0.1],[0.1],[0.1]]",
    "model.hidden=8",
    "data.subset=100",
    "data.test_subset=50",
    "train.epochs=2",
    "batch.size=16",
    "measure.hessian_samples=20",
    "measure.hessian_iterations=3",
    "measure.jacobian_samples=4",
    "train.progress=none",
    "train.device=cpu",
    "track=disabled",
]


def pytest_configure(config: pytest.Config) -> None:
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips tests marked gpu if there is no GPU."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu") is not None:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of the repository."""
    return ROOT


def compose_tree(*overrides: str) -> Any:
    """The configuration tree that these command-line overrides give."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose("config", overrides=list(overrides))


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., Config]:
    """`tiny("method=spectral", ...)`: a configuration that trains in a second into tmp_path."""

    def make(*overrides: str) -> Config:
        return configure(compose_tree(*TINY, f"results={tmp_path}", *overrides))

    return make


@pytest.fixture
def stand_in() -> Iterator[type[StandIn]]:
    """Two stand-ins for GPUs instead of the real devices."""
    switch_on()
    yield StandIn
    accelerator.use(None)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A monotonic clock that advances only by `clock[0] += seconds`."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(signals, "STARTED", 1000.0)
    return now
