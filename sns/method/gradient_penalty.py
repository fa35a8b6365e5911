"""Gradient penalty of a critic D (Gulrajani et al. 2017, arXiv 1704.00028).

It adds lambda * mean (|d D(x) / d x| - 1)^2 to the risk, at x = a x_real + (1 - a) x_fake with a
uniform on [0, 1) for each pair. In Miyato et al. 2018 it is called GAN-GP beside the logistic loss
and WGAN-GP beside Wasserstein's.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sns.config.schema import require
from sns.method.base import Risk, Sums, register
from sns.method.term import TermMethod


class GradientPenalty:
    """factor * mean (|d D(x) / d x| - 1)^2 for any training loop.

    loss = loss + penalty(real, fake)
    """

    def __init__(
        self, critic: nn.Module, factor: float = 10.0, *, generator: torch.Generator | None = None, name: str = ""
    ) -> None:
        """`critic`: examples (N, ...) to (N, 1). `generator`: of a, on the examples' device; None:
        torch's default. `name`: in messages. ConfigError for a negative factor."""
        require(factor >= 0, f"factor={factor} must not be negative")
        self.critic, self.factor, self.generator = critic, factor, generator
        self.name = name or type(self).__name__

    def __call__(self, real: Tensor, fake: Tensor) -> Tensor:
        """The penalty, (), of examples of one shape (N, ...). ConfigError if the critic has more
        than one output."""
        shape = (len(real), *(1,) * (real.dim() - 1))
        a = torch.rand(shape, generator=self.generator, device=real.device, dtype=real.dtype)
        x = torch.lerp(fake.detach(), real.detach(), a).requires_grad_()
        outputs = self.critic(x)
        require(outputs.shape == (len(x), 1), f"{self.name} needs a network with one output, such as a GAN's critic")
        (slope,) = torch.autograd.grad(outputs.sum(), x, create_graph=True)
        norms = torch.linalg.vector_norm(slope.flatten(1), dim=1)
        penalty: Tensor = self.factor * (norms - 1.0).square().mean()
        return penalty


@dataclass
class GradientPenaltyOptions:
    """lambda is 10 in both papers."""

    strength: ClassVar[str] = "factor"

    name: str = ""
    factor: float = 10.0  # lambda

    def __post_init__(self) -> None:
        require(self.factor >= 0, f"method.factor={self.factor} must not be negative")


@dataclass
class GANGPOptions(GradientPenaltyOptions):
    """With the loss that the task has anyway."""

    name: str = "gan_gp"


@dataclass
class WGANGPOptions(GradientPenaltyOptions):
    """For task.loss=wasserstein, which the GAN settings choose with it."""

    name: str = "wgan_gp"


class GradientPenaltyMethod(TermMethod):
    """Minimises the risk of a critic + the penalty; the first half of a pass is real."""

    term_passes = 3.0  # forward, backward, and backward of both

    def __init__(self, options: Any, model: nn.Module, generator: torch.Generator) -> None:
        super().__init__(options, model, generator)
        name = f"method={options.name}"
        self.penalty = GradientPenalty(model, options.factor, generator=self.draws, name=name)

    def backward(self, risk: Risk, x: Tensor, share: float) -> Sums:
        """The gradient of the risk and of the penalty."""
        require(x.is_floating_point(), f"{self.penalty.name} needs real-valued inputs, and those are whole numbers")
        penalty = self.note(self.penalty(*x.chunk(2)), share)
        return risk(x, share, lambda outputs: penalty)


@register("gan_gp")
class GANGP(GradientPenaltyMethod):
    """Beside the logistic or the hinge loss."""

    Config = GANGPOptions


@register("wgan_gp")
class WGANGP(GradientPenaltyMethod):
    """Beside Wasserstein's loss."""

    Config = WGANGPOptions
