"""eager, compile and graph make the same update; channels_last changes only the memory layout."""

import math
import os
import shutil
from collections import defaultdict
from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from updates import AUGMENT, METHODS, SECOND_ORDER, SPLIT, Make, same, small, state, trained

from sns.common import accelerator
from sns.common.errors import UserError
from sns.config.schema import TrainConfig
from sns.linalg.weights import weights_of
from sns.train.device import choose_memory_format, choose_mode
from sns.train.run import advance
from sns.train.session import Session, start

# adversarial: an image whose gradient is rounding alone still gets a whole step, in any direction
SMOOTH = [method for method in METHODS if method not in ("adversarial", *SECOND_ORDER)]
ON_GPU = [pytest.param("cuda", method, marks=pytest.mark.gpu) for method in SMOOTH]
HEAD = {"digits_vgg": ["model.head_dropout=0.0"], "digits_densenet": []}
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # for equal sums of cuBLAS; read at its first call
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")


def assert_alike(a: Session, b: Session, rtol: float, atol: float) -> None:
    for (name, x), y in zip(state(a).items(), state(b).values(), strict=True):
        torch.testing.assert_close(x, y, rtol=rtol, atol=atol, msg=lambda text, name=name: f"{name}: {text}")


@needs_compiler
def test_compiled_equals_eager_dropout_included(tiny: Make) -> None:
    """Six updates in passes of half a batch on the CPU are equal but for rounding."""
    for method in [*SMOOTH, "adversarial"]:  # in one test, so that one process compiles once
        options = (f"method={method}", *SPLIT)
        eager, compiled = (trained(tiny(*options, f"train.mode={mode}")) for mode in ("eager", "compile"))
        assert compiled.mode == "compile"
        assert compiled.task.network is not compiled.task.model
        assert_alike(eager, compiled, rtol=1e-3, atol=1e-5)


@pytest.fixture
def deterministic() -> Iterator[None]:
    """A GPU repeats itself bit by bit, and does not search for kernels."""
    torch.backends.cudnn.deterministic = True
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.backends.cudnn.deterministic = False
    torch.use_deterministic_algorithms(False)


@pytest.fixture(params=["stand-in", pytest.param("cuda", marks=pytest.mark.gpu)])
def gpu(request: pytest.FixtureRequest, deterministic: None) -> None:
    """train.device=cuda is a stand-in on the CPU, or real."""
    if request.param == "stand-in":
        request.getfixturevalue("stand_in")


def assert_equal_but_for_rounding(a: Session, b: Session) -> None:
    """After one update: a sum of n terms in another order differs by about sqrt(n) u.

    u = 2^-24 is the rounding unit of fp32, and rounding errors have random signs. The longest sums,
    those of weight gradients, have a term for each pixel of the batch. Each layer adds an error in
    the forward and in the backward pass. The scale is the largest entry of all tensors of a kind:
    the gradient of a bias before batch norm is rounding alone. In a second update rounding may
    carry an input across a ReLU's threshold. TensorFloat-32, u = 2^-11, is outside the bound.
    """
    pixels, layers = a.config.batch.size * a.task.dataset.image_size**2, len(weights_of(a.task.model))
    bound = 2 * layers * math.sqrt(pixels) * 2.0**-24
    theirs = state(b)
    kinds = defaultdict(list)
    for name in state(a):
        kinds[name.split()[0] if " " in name or name in ("loss", "correct", "step") else "model"].append(name)
    for names in kinds.values():
        pairs = [(state(a)[name].double().cpu(), theirs[name].double().cpu()) for name in names]
        scale = max(x.abs().max().item() for x, _ in pairs)
        for name, (x, y) in zip(names, pairs, strict=True):
            assert (x - y).abs().max().item() <= bound * scale, name


@pytest.mark.gpu
@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("setting", ["digits_vgg", "digits_nin", "digits_densenet"])
def test_captured_equals_eager_bit_by_bit(setting: str, method: str) -> None:
    """Ten updates, seven of them replays, with augmentation, dropout and a drop of the rate."""
    options = ("train.device=cuda", f"method={method}", *AUGMENT, *SPLIT, "train.epochs=4")
    eager, captured = (trained(small(setting, *options, f"train.mode={name}"), 10) for name in ("eager", "graph"))
    assert same(state(eager), state(captured))


@pytest.mark.gpu
@pytest.mark.compiled
@pytest.mark.parametrize("method", SMOOTH)
@pytest.mark.parametrize("setting", ["digits_vgg", "digits_nin", "digits_densenet"])
def test_compiled_equals_eager_on_a_gpu(setting: str, method: str) -> None:
    options = ("train.device=cuda", f"method={method}", *AUGMENT, *SPLIT)
    eager, compiled = (trained(small(setting, *options, f"train.mode={name}"), 1) for name in ("eager", "compile"))
    assert_equal_but_for_rounding(eager, compiled)
    for _ in range(5):  # the last two are replays
        advance(compiled)
    assert compiled.task.running.sums["loss"].isfinite()


@pytest.mark.parametrize("noise", [2.0**-24, 2.0**-11])
@pytest.mark.parametrize("setting", ["digits_vgg", "digits_nin", "digits_densenet"])
def test_the_bound_holds_for_fp32_and_not_for_tf32(setting: str, noise: float) -> None:
    """Random errors of one rounding unit in every layer's output stand for another device."""
    config, generator = small(setting, "method=spectral", *SPLIT), torch.Generator().manual_seed(0)
    exact, rounded = trained(config, 1), start(config)
    for layer in rounded.task.model.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.register_forward_hook(lambda _, x, y: y * (1 + noise * torch.randn(y.shape, generator=generator)))
    rounded.task.model.train()
    advance(rounded)
    with nullcontext() if noise == 2.0**-24 else pytest.raises(AssertionError):
        assert_equal_but_for_rounding(exact, rounded)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("method", SMOOTH)
def test_cpu_equals_gpu(tiny: Make, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without dropout, whose random numbers differ by device."""
    still = ("model.dropout=[[0.0],[0.0],[0.0]]", "model.head_dropout=0", f"method={method}", "train.mode=eager")
    gpu = trained(tiny(*still, "train.device=cuda"), 1)
    monkeypatch.setattr(accelerator, "_stand_in", None)
    assert_equal_but_for_rounding(trained(tiny(*still, "train.device=cpu"), 1), gpu)


@pytest.mark.gpu
def test_a_captured_step_waits_for_nothing(tiny: Make) -> None:
    session = trained(tiny("train.device=cuda", "method=spectral"), 5)
    torch.cuda.set_sync_debug_mode("error")
    try:
        advance(session)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.usefixtures("gpu")
def test_a_captured_run_resumes(tiny: Make) -> None:
    """A run resumed from a checkpoint after replays draws the same random numbers as another."""
    config = tiny("train.device=cuda", "method=spectral", *AUGMENT)
    whole, first = trained(config, 10), trained(config, 6)
    first.directory.mkdir(parents=True)
    first.save()
    assert start(config).step == 6
    again = trained(config, 4)
    assert again.step == 10
    assert same(state(whole), state(again))


@pytest.mark.parametrize(("device", "method"), [*(("cpu", method) for method in METHODS), *ON_GPU])
@pytest.mark.parametrize("setting", ["digits_vgg", "digits_densenet"])
def test_channels_last_changes_only_rounding(setting: str, method: str, device: str) -> None:
    """Two updates of VGG only, and else one: later, rounding may carry an input across a ReLU's
    threshold. In float64 two updates of sam differ by 4e-16."""
    still = "model.dropout=0.0" if setting == "digits_densenet" else "model.dropout=[[0.0,0.0],[0.0,0.0],[0.0,0.0]]"
    options = (f"method={method}", f"train.device={device}", *SPLIT, still)
    updates = 2 if (device, setting) == ("cpu", "digits_vgg") and method != "sam" else 1
    a, b = (
        trained(small(setting, *options, f"train.memory_format={name}", *HEAD[setting]), updates)
        for name in ("contiguous", "channels_last")
    )
    kernels = [p for p in b.task.model.parameters() if p.dim() == 4 and p.shape[1] > 1 and p.shape[2] > 1]
    assert kernels
    assert not any(p.is_contiguous() for p in kernels)
    if device == "cpu":
        assert_alike(a, b, rtol=1e-3, atol=1e-5)
    else:
        assert_equal_but_for_rounding(a, b)


def test_modes_and_formats_are_chosen_by_device() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    train = TrainConfig(epochs=1)
    assert (choose_mode(train, cpu), choose_mode(train, gpu)) == ("eager", "graph")
    assert choose_memory_format(train, gpu) is torch.contiguous_format
    assert choose_memory_format(train, cpu) is torch.channels_last
    bf16 = TrainConfig(epochs=1, precision="bf16")
    assert choose_memory_format(bf16, gpu) is torch.channels_last
    assert choose_memory_format(bf16, cpu) is torch.channels_last
    tf32 = TrainConfig(epochs=1, precision="tf32")
    assert choose_memory_format(tf32, gpu) is torch.channels_last
    assert choose_memory_format(tf32, cpu) is torch.channels_last
    with pytest.raises(UserError, match=r"train\.mode=graph needs a CUDA GPU"):
        choose_mode(TrainConfig(epochs=1, mode="graph"), cpu)


def test_compile_without_a_compiler_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UserError, match=r"needs a C\+\+ compiler"):
        choose_mode(TrainConfig(epochs=1, mode="compile"), torch.device("cpu"))
