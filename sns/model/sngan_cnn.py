"""The standard CNN of Miyato et al. 2018 (appendix, table 3), arXiv 1802.05957."""

from dataclasses import dataclass, field

from torch import nn

from sns.config.schema import require
from sns.model.adversaries import INITIAL, LATENT, Adversaries
from sns.model.base import register


@dataclass
class SNGANCNNConfig:
    """The paper's networks for 32x32 and 48x48 pixels."""

    name: str = "sngan_cnn"
    # Channels of the discriminator's convolutions: two at each of the first three widths, the
    # second with stride 2, and one at the last. The generator has them in reverse order.
    widths: list[int] = field(default_factory=lambda: [64, 128, 256, 512])
    slope: float = 0.1  # of leaky ReLU, for negative numbers
    # Distribution of the first weights: normal, or glorot for narrow networks, in which the signal
    # would vanish: sns/model/adversaries.py.
    initial: str = "normal"

    def __post_init__(self) -> None:
        require(len(self.widths) >= 2, f"model.widths={self.widths} must hold two numbers or more")
        known = f"model.initial={self.initial} is unknown; choose one of {', '.join(INITIAL)}"
        require(self.initial in INITIAL, known)


@register("sngan_cnn")
class SNGANCNN(Adversaries):
    """Images (channels, S, S), S a multiple of 2^(widths - 1)."""

    Config = SNGANCNNConfig

    def __init__(
        self, config: SNGANCNNConfig, channels: int, image_size: int, classes: int = 0, ghost: int | None = None
    ) -> None:
        halvings = len(config.widths) - 1
        side = image_size >> halvings
        require(
            side > 0 and side << halvings == image_size,
            f"{image_size}x{image_size} images are too small or cannot be halved {halvings} times",
        )
        generator = _generator(config.widths, channels, side)
        super().__init__(generator, _discriminator(config, channels, side), config.initial)

    @staticmethod
    def critic_matrices(config: SNGANCNNConfig) -> int:
        """The number of the discriminator's weight matrices."""
        return 2 * len(config.widths)


def _generator(widths: list[int], channels: int, side: int) -> nn.Module:
    last = widths[-1]
    layers: list[nn.Module] = [nn.Linear(LATENT, last * side * side), nn.Unflatten(1, (last, side, side))]
    width = last
    for wider in reversed(widths[:-1]):
        layers += [nn.ConvTranspose2d(width, wider, 4, stride=2, padding=1), nn.BatchNorm2d(wider), nn.ReLU()]
        width = wider
    return nn.Sequential(*layers, nn.Conv2d(width, channels, 3, padding=1), nn.Tanh())


def _discriminator(config: SNGANCNNConfig, channels: int, side: int) -> nn.Module:
    layers: list[nn.Module] = []
    for width in config.widths[:-1]:
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.LeakyReLU(config.slope)]
        layers += [nn.Conv2d(width, width, 4, stride=2, padding=1), nn.LeakyReLU(config.slope)]
        channels = width
    last = config.widths[-1]
    layers += [nn.Conv2d(channels, last, 3, padding=1), nn.LeakyReLU(config.slope)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(last * side * side, 1))
