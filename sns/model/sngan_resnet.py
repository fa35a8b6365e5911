"""The residual networks of Miyato et al. 2018 (appendix, tables 4 and 5), arXiv 1802.05957."""

import itertools
import math
from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.nn import functional as F

from sns.config.schema import require
from sns.model.adversaries import LATENT, Adversaries
from sns.model.base import register


@dataclass
class SNGANResNetConfig:
    """The paper's networks for 32x32 images; configs/setting/sngan_resnet_stl10.yaml: 48x48."""

    name: str = "sngan_resnet"
    first: int = 256  # channels of the generator's linear layer
    widths: list[int] = field(default_factory=lambda: [256, 256, 256])  # of its blocks, each doubles the side
    critic: list[int] = field(default_factory=lambda: [128, 128, 128, 128])  # of the discriminator's blocks
    halvings: int = 2  # that many first blocks of the discriminator halve the side

    def __post_init__(self) -> None:
        require(bool(self.widths) and bool(self.critic), "model.widths and model.critic must not be empty")
        require(0 <= self.halvings <= len(self.critic), f"model.halvings={self.halvings} is not a number of blocks")


@register("sngan_resnet")
class SNGANResNet(Adversaries):
    """Images (channels, S, S), S a multiple of 2^(widths) and of 2^halvings."""

    Config = SNGANResNetConfig

    def __init__(
        self, config: SNGANResNetConfig, channels: int, image_size: int, classes: int = 0, ghost: int | None = None
    ) -> None:
        side, halvings = image_size >> len(config.widths), max(len(config.widths), config.halvings)
        fits = side > 0 and image_size % 2**halvings == 0
        require(fits, f"{image_size}x{image_size} images are too small or cannot be halved {halvings} times")
        super().__init__(_generator(config, channels, side), Discriminator(config, channels), "glorot")

    @staticmethod
    def critic_matrices(config: SNGANResNetConfig) -> int:
        """The number of the discriminator's weight matrices, a block's shortcut included."""
        changed = sum(a != b for a, b in itertools.pairwise(config.critic[max(config.halvings, 1) - 1 :]))
        return 2 * len(config.critic) + max(config.halvings, 1) + changed + 1


def _residual(channels: int, width: int) -> nn.Conv2d:
    """A 3x3 convolution on the residual path, whose first weights are sqrt(2) times wider than
    Glorot's, as in the authors' code sngan_projection."""
    layer = nn.Conv2d(channels, width, 3, padding=1)
    layer.gain = math.sqrt(2.0)  # type: ignore[assignment]
    return layer


class Up(nn.Module):
    """Doubles the side: BN, ReLU, nearest neighbours, 3x3, BN, ReLU, 3x3; beside it a 1x1."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(width)
        self.conv1, self.conv2 = _residual(channels, width), _residual(width, width)
        self.shortcut = nn.Conv2d(channels, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, S, S) to (N, width, 2 S, 2 S)."""
        h = self.conv1(F.interpolate(F.relu(self.norm1(x)), scale_factor=2))
        h = self.conv2(F.relu(self.norm2(h)))
        out: Tensor = h + self.shortcut(F.interpolate(x, scale_factor=2))
        return out


class Down(nn.Module):
    """ReLU, 3x3, ReLU, 3x3, and mean pooling where it halves the side; beside it a 1x1.

    The first block of a discriminator has no ReLU before its first layer. A block that changes
    neither width nor side adds its input unchanged.
    """

    def __init__(self, channels: int, width: int, halve: bool, first: bool) -> None:
        super().__init__()
        self.halve, self.first = halve, first
        self.conv1, self.conv2 = _residual(channels, width), _residual(width, width)
        self.shortcut = nn.Conv2d(channels, width, 1) if halve or channels != width else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, S, S) to (N, width, S, S), or with half the side."""
        h = self.conv2(F.relu(self.conv1(x if self.first else F.relu(x))))
        shortcut = self.shortcut(x)
        out: Tensor = F.avg_pool2d(h, 2) + F.avg_pool2d(shortcut, 2) if self.halve else h + shortcut
        return out


def _generator(config: SNGANResNetConfig, channels: int, side: int) -> nn.Module:
    layers: list[nn.Module] = [nn.Linear(LATENT, config.first * side**2), nn.Unflatten(1, (config.first, side, side))]
    width = config.first
    for wider in config.widths:
        layers.append(Up(width, wider))
        width = wider
    return nn.Sequential(*layers, nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, channels, 3, padding=1), nn.Tanh())


class Discriminator(nn.Module):
    """Blocks, ReLU, the sum over all pixels, a linear layer."""

    def __init__(self, config: SNGANResNetConfig, channels: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for index, width in enumerate(config.critic):
            blocks.append(Down(channels, width, index < config.halvings, index == 0))
            channels = width
        self.blocks, self.head = nn.Sequential(*blocks), nn.Linear(channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Images to logits (N, 1)."""
        out: Tensor = self.head(F.relu(self.blocks(x)).sum(dim=(2, 3)))
        return out
