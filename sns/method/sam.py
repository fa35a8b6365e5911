"""Sharpness-aware minimisation (Foret et al. 2021, arXiv 2010.01412, equations 2 and 3).

The gradient of a pass is taken at w + rho g / |g|, g its gradient at w.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from sns.config.schema import require
from sns.method.base import Method, Risk, Sums, register
from sns.model.ghost_norm import frozen_running_statistics


class SharpnessAware:
    """Moves a model's weights along their gradient for a second pass, in any training loop.

    criterion(model(x), y).backward()
    with sam.moved(): criterion(model(x), y).backward()
    optimizer.step()
    """

    def __init__(self, model: nn.Module, rho: float = 0.05) -> None:
        """`rho`: length of the step, in units of the weights. ConfigError if negative."""
        require(rho >= 0, f"rho={rho} must not be negative")
        self.model, self.rho = model, rho

    @contextmanager
    def moved(self) -> Iterator[None]:
        """Inside, the weights are w + rho g / |g|, |g| the norm over all trained parameters.

        g is taken from `.grad`, which is None afterwards. Running batch-norm statistics stay. At
        exit the weights are bitwise what they were. They do not move where g = 0.
        """
        parameters = [p for p in self.model.parameters() if p.requires_grad and p.grad is not None]
        weights = [p.detach() for p in parameters]
        before = [weight.clone() for weight in weights]
        self._step(weights, [p.grad for p in parameters if p.grad is not None])
        for p in parameters:
            p.grad = None
        try:
            with frozen_running_statistics(self.model):
                yield
        finally:
            torch._foreach_copy_(weights, before)

    @torch.no_grad()
    def _step(self, weights: list[Tensor], gradients: list[Tensor]) -> None:
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        scale = torch.where(norm > 0, self.rho / norm, torch.zeros_like(norm))
        torch._foreach_add_(weights, torch._foreach_mul(gradients, scale))


@dataclass
class SAMOptions:
    """The paper's rho is 0.05."""

    strength: ClassVar[str] = "rho"

    name: str = "sam"
    rho: float = 0.05  # length of the step along the gradient

    def __post_init__(self) -> None:
        require(self.rho >= 0, f"method.rho={self.rho} must not be negative")


@register("sam")
class SAM(Method):
    """Minimises the largest loss within rho of the weights, to first order, in two passes.

    Each pass over a part of the batch, by `batch.micro` or on a process of its own, moves the
    weights by its own gradient: m-SAM of section 4.1 with m the examples of a pass. Only the first
    pass moves running batch-norm statistics. The second draws dropout masks of its own.
    """

    Config = SAMOptions

    def __init__(self, options: SAMOptions, model: nn.Module, generator: torch.Generator) -> None:
        super().__init__(options, model, generator)
        self.sharpness = SharpnessAware(model, options.rho)

    def backward(self, risk: Risk, x: Tensor, share: float) -> Sums:
        """Adds `share` times the gradient at the moved weights. The sums are those at w."""
        earlier = [(p, p.grad) for p in self.model.parameters() if p.grad is not None]  # of the passes before
        for p, _ in earlier:
            p.grad = None
        sums = risk(x, share)
        with self.sharpness.moved():
            risk(x, share)
        for p, gradient in earlier:
            p.grad = gradient if p.grad is None else p.grad.add_(gradient)
        return sums
