"""The four networks: literal parameter counts, shapes, layers and initial weights."""

import math

import pytest
import torch
from torch import nn

from sns.common.errors import ConfigError
from sns.model import MODELS, build
from sns.model.densenet import DenseNetConfig
from sns.model.ghost_norm import GhostBatchNorm2d
from sns.model.nin import NINConfig
from sns.model.vgg import VGGConfig

PAPER = {
    "VGG CIFAR-10": (VGGConfig(), 32, 10, 14_987_200),
    "NIN CIFAR-100": (NINConfig(), 32, 100, 987_372),
    "NIN without batch norm": (NINConfig(batch_norm="none"), 32, 100, 984_356),
    "DenseNet-40 CIFAR-100": (DenseNetConfig(), 32, 100, 1_060_132),
    "DenseNet-22 STL-10": (DenseNetConfig(depth=22, dropout=0.0), 96, 10, 270_706),
}


def make(options: object, size: int = 32, classes: int = 10, ghost: int | None = None, seed: int = 0) -> nn.Module:
    return build(options, 3, size, classes, ghost, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", PAPER)
def test_parameter_counts(name: str) -> None:
    options, size, classes, count = PAPER[name]
    model = make(options, size, classes)
    assert sum(p.numel() for p in model.parameters()) == count
    assert model.eval()(torch.randn(2, 3, size, size)).shape == (2, classes)


def test_parameter_counts_follow_from_the_layers() -> None:
    """The same numbers by hand, from the description of the networks."""
    convs = [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256), (256, 512)] + [
        (512, 512)
    ] * 5
    vgg = sum(9 * i * o + 2 * o for i, o in convs) + 512 * 512 + 2 * 512 + 512 * 10
    assert vgg == PAPER["VGG CIFAR-10"][3]
    nin = [(3, 192, 5), (192, 160, 1), (160, 96, 1), (96, 192, 5), (192, 192, 1), (192, 192, 1), (192, 192, 3)]
    nin += [(192, 192, 1), (192, 100, 1)]
    assert sum(k * k * i * o + o for i, o, k in nin) == PAPER["NIN without batch norm"][3]
    assert sum(k * k * i * o + 3 * o for i, o, k in nin) == PAPER["NIN CIFAR-100"][3]


def test_pools_round_up_in_nin() -> None:
    """32 -> 16 -> 8 with windows of 3 and stride 2 needs ceil mode; floor would give 15 and 7."""
    sizes = []
    model = make(NINConfig())
    for module in model.modules():
        if isinstance(module, nn.MaxPool2d):
            module.register_forward_hook(lambda _m, _i, out: sizes.append(tuple(out.shape[2:])))
    model.eval()(torch.randn(1, 3, 32, 32))
    assert sizes == [(16, 16), (8, 8)]


def test_logits_of_nin_are_not_rectified() -> None:
    assert (make(NINConfig(batch_norm="none")).eval()(torch.randn(64, 3, 32, 32)) < 0).any()


def test_dropout_rates_and_places() -> None:
    rates = [m.p for m in make(VGGConfig()).modules() if isinstance(m, nn.Dropout)]
    assert rates == [0.3, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.5, 0.5]
    densenet = [m.p for m in make(DenseNetConfig()).modules() if isinstance(m, nn.Dropout)]
    assert densenet == [0.2] * 38  # 36 dense layers and 2 transitions; not the first convolution
    assert [m.p for m in make(NINConfig()).modules() if isinstance(m, nn.Dropout)] == [0.5, 0.5]


@pytest.mark.parametrize(("choice", "count"), [("every", 9), ("hidden", 8), ("none", 0)])
def test_batch_norm_option_of_nin(choice: str, count: int) -> None:
    model = make(NINConfig(batch_norm=choice))
    assert sum(isinstance(m, GhostBatchNorm2d) for m in model.modules()) == count


@pytest.mark.parametrize("options", [VGGConfig(), NINConfig(), DenseNetConfig()], ids=lambda o: o.name)
def test_initial_weights_have_variance_one_over_fan_in(options: object) -> None:
    model = make(options)
    for name, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            weight = module.weight
            n = weight.numel()
            scaled = weight.std().item() * math.sqrt(weight[0].numel())
            assert abs(scaled - 1) < 5 / math.sqrt(2 * n), name  # five standard errors of a standard deviation
            assert abs(weight.mean().item()) * math.sqrt(weight[0].numel()) < 5 / math.sqrt(n), name
            assert module.bias is None or not module.bias.any(), name
        if isinstance(module, GhostBatchNorm2d):
            assert (module.weight == 1).all()
            assert (module.bias == 0).all()


def test_seed_decides_the_weights() -> None:
    first, again, other = (make(NINConfig(), seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["features.0.weight"], other["features.0.weight"])


@pytest.mark.parametrize("name", MODELS)
def test_images_too_small_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="too small"):
        build(MODELS[name].Config(), 3, 2, 10, None, torch.Generator())


def test_densenet_grows_by_the_growth_rate() -> None:
    model = make(DenseNetConfig(depth=10, growth=5, first=7))
    convs = [tuple(m.weight.shape[:2]) for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert convs == [(7, 3), (5, 7), (5, 12), (17, 17), (5, 17), (5, 22), (27, 27), (5, 27), (5, 32)]
