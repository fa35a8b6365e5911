"""eager, compile and graph make the same update; channels_last changes only the memory layout."""

import shutil

import pytest
import torch
from updates import AUGMENT, METHODS, SPLIT, Make, small, state, trained

from sns.common.errors import UserError
from sns.config.schema import TrainConfig
from sns.train.device import choose_memory_format, choose_mode
from sns.train.run import advance
from sns.train.session import Session, start

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
HEAD = {"digits_vgg": ["model.head_dropout=0.0"], "digits_densenet": []}
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")


def assert_alike(a: Session, b: Session, rtol: float, atol: float) -> None:
    for (name, x), y in zip(state(a).items(), state(b).values(), strict=True):
        torch.testing.assert_close(x, y, rtol=rtol, atol=atol, msg=lambda text, name=name: f"{name}: {text}")


@needs_compiler
def test_compiled_equals_eager_dropout_included(tiny: Make) -> None:
    """Six updates in passes of half a batch on the CPU are equal but for rounding."""
    for method in METHODS:  # in one test, so that one process compiles once
        options = (f"method={method}", *SPLIT)
        eager, compiled = (trained(tiny(*options, f"train.mode={mode}")) for mode in ("eager", "compile"))
        assert compiled.mode == "compile"
        assert compiled.task.network is not compiled.task.model
        assert_alike(eager, compiled, rtol=1e-3, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["graph", "compile"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("setting", ["digits_vgg", "digits_nin", "digits_densenet"])
def test_captured_equals_eager(setting: str, method: str, mode: str) -> None:
    """Ten updates, seven of them replays, with augmentation, dropout and a drop of the rate."""
    options = ("train.device=cuda", f"method={method}", *AUGMENT, *SPLIT, "train.epochs=4")
    eager, captured = (trained(small(setting, *options, f"train.mode={name}"), 10) for name in ("eager", mode))
    assert_alike(eager, captured, rtol=1e-2, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("method", METHODS)
def test_cpu_equals_gpu(tiny: Make, method: str) -> None:
    """Without dropout, whose random numbers differ by device."""
    still = ("model.dropout=[[0.0],[0.0],[0.0]]", "model.head_dropout=0", f"method={method}", "train.mode=eager")
    cpu, gpu = (trained(tiny(*still, f"train.device={device}")) for device in ("cpu", "cuda"))
    moved = {name: tensor.cpu() for name, tensor in state(gpu).items()}
    for name, tensor in state(cpu).items():
        torch.testing.assert_close(tensor, moved[name], rtol=1e-2, atol=1e-4, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.gpu
def test_a_captured_step_waits_for_nothing(tiny: Make) -> None:
    session = trained(tiny("train.device=cuda", "method=spectral"), 5)
    torch.cuda.set_sync_debug_mode("error")
    try:
        advance(session)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
def test_a_captured_run_resumes(tiny: Make) -> None:
    """A run resumed from a checkpoint after replays draws the same random numbers as another."""
    config = tiny("train.device=cuda", "method=spectral", *AUGMENT)
    whole, first = trained(config, 10), trained(config, 6)
    first.directory.mkdir(parents=True)
    first.save()
    again = start(config)
    assert again.step == 6
    again.task.model.train()
    for _ in range(4):
        again.advance()
    assert_alike(whole, again, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("setting", ["digits_vgg", "digits_densenet"])
def test_channels_last_changes_only_rounding(setting: str, method: str, device: str) -> None:
    """Two updates only: later, rounding may move an input across a ReLU's threshold."""
    still = "model.dropout=0.0" if setting == "digits_densenet" else "model.dropout=[[0.0,0.0],[0.0,0.0],[0.0,0.0]]"
    options = (f"method={method}", f"train.device={device}", *SPLIT, still)
    a, b = (
        trained(small(setting, *options, f"train.memory_format={name}", *HEAD[setting]), 2)
        for name in ("contiguous", "channels_last")
    )
    kernels = [p for p in b.task.model.parameters() if p.dim() == 4 and p.shape[1] > 1 and p.shape[2] > 1]
    assert kernels
    assert not any(p.is_contiguous() for p in kernels)
    assert_alike(a, b, rtol=1e-3, atol=1e-5)


def test_modes_and_formats_are_chosen_by_device() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    train = TrainConfig(epochs=1)
    assert (choose_mode(train, cpu), choose_mode(train, gpu)) == ("eager", "graph")
    assert choose_memory_format(train, gpu) is torch.contiguous_format
    bf16 = TrainConfig(epochs=1, precision="bf16")
    assert choose_memory_format(bf16, gpu) is torch.channels_last
    assert choose_memory_format(bf16, cpu) is torch.channels_last
    tf32 = TrainConfig(epochs=1, precision="tf32")
    assert choose_memory_format(tf32, gpu) is torch.channels_last
    assert choose_memory_format(tf32, cpu) is torch.contiguous_format
    with pytest.raises(UserError, match=r"train\.mode=graph needs a CUDA GPU"):
        choose_mode(TrainConfig(epochs=1, mode="graph"), cpu)


def test_compile_without_a_compiler_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UserError, match=r"needs a C\+\+ compiler"):
        choose_mode(TrainConfig(epochs=1, mode="compile"), torch.device("cpu"))
