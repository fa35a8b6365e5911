"""The networks of the GAN paper: parameters counted by hand, shapes, initial weights."""

import pytest
import torch
from torch import nn

from sns.linalg.weights import weights_of
from sns.model import MODELS, build
from sns.model.adversaries import LATENT, STD, Adversaries
from sns.model.sngan_cnn import SNGANCNNConfig
from sns.model.sngan_resnet import Down, SNGANResNetConfig, Up

STL = SNGANResNetConfig(first=512, widths=[256, 128, 64], critic=[64, 128, 256, 512, 1024], halvings=4)


def made(config: SNGANCNNConfig | SNGANResNetConfig, side: int, seed: int = 0) -> Adversaries:
    net = build(config, 3, side, 10, None, torch.Generator().manual_seed(seed))
    assert isinstance(net, Adversaries)
    return net


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def conv(inside: int, outside: int, kernel: int) -> int:
    return outside * (inside * kernel**2 + 1)


@pytest.mark.parametrize(("side", "small"), [(32, 4), (48, 6)])
def test_parameters_of_the_cnn(side: int, small: int) -> None:
    """Each batch norm of the generator has 2 parameters a channel."""
    net = made(SNGANCNNConfig(), side)
    ups = [(512, 256), (256, 128), (128, 64)]
    transposed = sum(outside * (inside * 16 + 1) + 2 * outside for inside, outside in ups)
    assert count(net.generator) == 512 * small**2 * (LATENT + 1) + transposed + conv(64, 3, 3)
    pairs = sum(conv(a, b, 3) + conv(b, b, 4) for a, b in [(3, 64), (64, 128), (128, 256)])
    assert count(net.discriminator) == pairs + conv(256, 512, 3) + 512 * small**2 + 1


def test_parameters_of_the_resnet() -> None:
    net = made(SNGANResNetConfig(), 32)
    block = 2 * conv(256, 256, 3) + conv(256, 256, 1) + 2 * 512
    assert count(net.generator) == 256 * 16 * (LATENT + 1) + 3 * block + 512 + conv(256, 3, 3)
    first = conv(3, 128, 3) + conv(128, 128, 3) + conv(3, 128, 1)
    second = 2 * conv(128, 128, 3) + conv(128, 128, 1)
    assert count(net.discriminator) == first + second + 4 * conv(128, 128, 3) + 128 + 1


@pytest.mark.parametrize(
    ("config", "side"),
    [(SNGANCNNConfig(), 32), (SNGANCNNConfig(widths=[8, 16]), 8), (SNGANResNetConfig(), 32), (STL, 48)],
)
def test_shapes_and_the_number_of_matrices(config: SNGANCNNConfig | SNGANResNetConfig, side: int) -> None:
    net = made(config, side)
    with torch.no_grad():
        images = net.generator(torch.randn(3, LATENT))
        assert images.shape == (3, 3, side, side)
        assert images.abs().max() <= 1
        assert net.discriminator(images).shape == net(torch.randn(3, LATENT)).shape == (3, 1)
    assert MODELS[config.name].critic_matrices(config) == len(weights_of(net.discriminator))


def test_initial_weights() -> None:
    net, again, other = (made(SNGANCNNConfig(), 32, seed) for seed in (1, 1, 2))
    weight = net.discriminator[12].weight
    assert weight.std().item() == pytest.approx(STD, rel=0.01)
    assert torch.equal(weight, again.discriminator[12].weight)
    assert not torch.equal(weight, other.discriminator[12].weight)
    assert all(not p.any() for name, p in net.discriminator.named_parameters() if name.endswith("bias"))


def test_glorot_is_wider_in_the_blocks() -> None:
    """Bounds: sqrt(6 / (fan_in + fan_out)), times sqrt(2) on the residual path."""
    net = made(SNGANResNetConfig(), 32)
    block = net.generator[2]
    assert isinstance(block, Up)
    assert block.conv1.weight.abs().max().item() == pytest.approx((12 / (2 * 256 * 9)) ** 0.5, rel=1e-3)
    assert block.shortcut.weight.abs().max().item() == pytest.approx((6 / (2 * 256)) ** 0.5, rel=1e-3)


def test_blocks_by_their_formulas() -> None:
    """A block with its convolutions at zero is its shortcut alone."""
    x = torch.randn(2, 4, 6, 6)
    down, same, up = Down(4, 8, True, False), Down(4, 4, False, False), Up(4, 8)
    with torch.no_grad():
        for block in (down, same, up):
            block.conv2.weight.zero_()
            block.conv2.bias.zero_()
        pooled = down.shortcut(x).unflatten(2, (3, 2)).unflatten(4, (3, 2)).mean(dim=(3, 5))
        torch.testing.assert_close(down(x), pooled)
        torch.testing.assert_close(same(x), x)
        torch.testing.assert_close(up(x), up.shortcut(x.repeat_interleave(2, 2).repeat_interleave(2, 3)))
