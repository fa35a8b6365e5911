"""Adversarial training (section 3.3, equation 3).

The perturbation is the L2 step eta = epsilon * g / |g|_2, or the sign step.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sns.config.schema import later, require
from sns.method.base import Method, Risk, Sums, register
from sns.model.ghost_norm import frozen_running_statistics

STEPS = ("l2", "sign")


@dataclass
class AdversarialOptions:
    """The paper's alpha is 0.5 and its epsilon 1.

    epsilon is in units of the contrast-normalised image; 1 is 1.8% of an image's norm on CIFAR.
    """

    strength: ClassVar[str] = "epsilon"

    name: str = "adversarial"
    alpha: float = 0.5  # weight of the clean loss
    epsilon: float = 1.0  # length of the perturbation: its L2 norm, or its largest entry with the sign step
    step: str = later("l2")  # l2: along the gradient (equation 3) | sign: along its sign, as Goodfellow et al. do

    def __post_init__(self) -> None:
        require(self.step in STEPS, f"method.step={self.step} is unknown; choose one of {', '.join(STEPS)}")
        require(0 <= self.alpha <= 1, f"method.alpha={self.alpha} must lie in [0, 1]")
        require(self.epsilon >= 0, f"method.epsilon={self.epsilon} must not be negative")


def perturbation(gradient: Tensor, epsilon: float, step: str = "l2") -> Tensor:
    """eta of equation 3: the direction or sign of the input gradient (N, C, H, W), times `epsilon`.

    It does not depend on the gradient's scale. It is 0 for an image whose gradient is exactly 0.
    """
    if step == "sign":
        return epsilon * gradient.sign()
    # Divided by the largest entry first: squares of a confident image's gradient would underflow.
    largest = gradient.abs().amax(dim=tuple(range(1, gradient.dim())), keepdim=True)
    direction = gradient / torch.where(largest > 0, largest, torch.ones_like(largest))
    norm: Tensor = torch.linalg.vector_norm(direction, dim=tuple(range(1, gradient.dim())), keepdim=True)
    return epsilon * direction / torch.where(largest > 0, norm, torch.ones_like(norm))


@register("adversarial")
class Adversarial(Method):
    """Minimises alpha * clean loss + (1 - alpha) * loss at x + eta in two passes; eta is constant.

    The clean pass gives both parameter and input gradients. Only the clean pass changes the running
    batch-norm statistics.
    """

    Config = AdversarialOptions

    def backward(self, risk: Risk, x: Tensor, share: float) -> Sums:
        """Adds `share` times the gradient of the data term of equation 3."""
        alpha, epsilon = self.options.alpha, self.options.epsilon
        require(x.is_floating_point(), "method=adversarial perturbs inputs, and those of this task are whole numbers")
        x = x.detach().requires_grad_(True)
        # At alpha = 0 the clean pass gives a gradient to the input only, not to the parameters.
        clean = risk(x, share * alpha) if alpha > 0 else self._input_gradient_only(risk, x, share)
        assert x.grad is not None
        moved = x.detach() + perturbation(x.grad, epsilon, self.options.step)
        with frozen_running_statistics(self.model):
            risk(moved, share * (1 - alpha))
        return clean

    def _input_gradient_only(self, risk: Risk, x: Tensor, share: float) -> Sums:
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        for p in parameters:
            p.requires_grad_(False)
        try:
            return risk(x, share)
        finally:
            for p in parameters:
                p.requires_grad_(True)
