"""A generator and a discriminator, which one model of a GAN holds (Miyato et al. 2018)."""

import math

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

LATENT = 128  # entries of z (their section 4)
STD = 0.02  # of initial weights, as in the authors' library chainer-gan-lib
INITIAL = ("normal", "glorot")


class Adversaries(nn.Module):
    """`generator`: z (N, LATENT) to images (N, C, S, S) in [-1, 1]. `discriminator`: images to one
    number each, (N, 1), the logit of being real."""

    def __init__(self, generator: nn.Module, discriminator: nn.Module, initial: str) -> None:
        """`initial`: normal, weights from N(0, STD^2), or glorot, see `draw_glorot`."""
        super().__init__()
        self.generator, self.discriminator, self.initial = generator, discriminator, initial

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        """Draws every weight on the CPU; biases are 0, batch norm is the identity."""
        for module in self.modules():
            if isinstance(module, nn.Linear | _ConvNd):
                self.draw(module, generator)
                if module.bias is not None:
                    module.bias.zero_()

    def draw(self, module: nn.Linear | _ConvNd, generator: torch.Generator) -> None:
        """Draws the weight of one layer. A layer with a number `gain` is that much wider than
        Glorot's distribution."""
        if self.initial == "glorot":
            draw_glorot(module, getattr(module, "gain", 1.0), generator)
        else:
            module.weight.copy_(torch.randn(module.weight.shape, generator=generator) * STD)

    def forward(self, z: Tensor) -> Tensor:
        """The discriminator's outputs (N, 1) on what the generator makes of z (N, LATENT)."""
        out: Tensor = self.discriminator(self.generator(z))
        return out


def draw_glorot(module: nn.Linear | _ConvNd, gain: float, generator: torch.Generator) -> None:
    """Uniform on [-a, a], a = gain * sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010)."""
    fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(module.weight)
    bound = gain * math.sqrt(6.0 / (fan_in + fan_out))
    module.weight.copy_((2.0 * torch.rand(module.weight.shape, generator=generator) - 1.0) * bound)
