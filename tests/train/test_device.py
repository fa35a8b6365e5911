"""Which device a run takes, as far as a machine without a GPU can show it."""

import pytest
import torch
from updates import small

from sns.common.accelerator import Accelerator
from sns.common.errors import UserError
from sns.train.device import choose_device
from sns.train.session import start


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("name", "local", "index"),
    [("auto", None, 0), ("cuda", None, 0), ("cuda", 1, 1), ("auto", 1, 1), ("cuda:1", None, 1)],
)
def test_a_cuda_device_has_an_index(name: str, local: int | None, index: int) -> None:
    assert choose_device(name, local) == torch.device("cuda", index)


@pytest.mark.usefixtures("two_gpus")
def test_the_cpu_can_be_asked_for() -> None:
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "gpu", "meta"])
def test_a_device_that_is_not_here_is_one_sentence(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UserError, match=r"train\.device="):
        choose_device(name)


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("able", [False, True])
def test_bf16_on_a_device_without_it_is_said(precision: str, able: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Accelerator, "has_bf16", lambda self: able)
    notes = start(small("digits_vgg", f"train.precision={precision}")).notes
    assert any("no bf16" in note for note in notes) == (precision == "bf16" and not able)
