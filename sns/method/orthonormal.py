"""Orthonormal regularization (Brock et al. 2017, arXiv 1609.07093): lambda * sum_l |W W^T - I|_F^2.

For a matrix (m, n) of more rows than columns it is |W^T W - I|_F^2. The other side would add the
constant |m - n| to the value and nothing to the gradient: both are sums of (sigma_i^2 - 1)^2.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from sns.common.precision import full_precision
from sns.config.schema import later, require
from sns.linalg.weights import Weight
from sns.method.base import Method, register
from sns.method.penalty import WeightPenalty

INITIAL = ("model", "orthonormal")


class OrthonormalPenalty(WeightPenalty):
    """factor * sum_l |W_l W_l^T - I|_F^2 over the smaller side of each weight matrix."""

    def __init__(self, model: nn.Module, factor: float = 1e-4, **options: object) -> None:
        super().__init__(model, factor, **options)  # type: ignore[arg-type]

    def __call__(self) -> Tensor:
        with full_precision(self.weights[0].tensor.device):
            excess = [_excess(weight.live()) for weight in self.weights]
            return self.factor * torch.stack([e.square().sum() for e in excess]).sum()

    @torch.no_grad()
    def add_gradient_(self) -> Tensor:
        """Adds 4 factor (W W^T - I) W, or 4 factor W (W^T W - I). Nothing waits for the device."""
        with full_precision(self.weights[0].tensor.device):
            values = [self._add(weight) for weight in self.weights]
        return self.factor * torch.stack(values).sum()

    def _add(self, weight: Weight) -> Tensor:
        matrices = weight.matrices()
        excess = _excess(matrices)
        wide = matrices.shape[1] <= matrices.shape[2]
        left, right = (excess, matrices) if wide else (matrices, excess)
        weight.add_product(left, right, 4.0 * self.factor)
        return excess.square().sum()


def _excess(matrices: Tensor) -> Tensor:
    """W W^T - I, or W^T W - I if that is smaller, of each block (blocks, m, n)."""
    wide = matrices.shape[1] <= matrices.shape[2]
    gram = matrices @ matrices.mT if wide else matrices.mT @ matrices
    return gram - torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)


@dataclass
class OrthonormalOptions:
    """Brock et al. use 1e-4."""

    strength: ClassVar[str] = "factor"

    name: str = "orthonormal"
    factor: float = 1e-4  # lambda, before `scale`
    scale: float = 1.0  # lambda is factor * scale: a setting matches the paper's dose by it
    # model: the network's own initial weights; orthonormal: W W^T or W^T W is I at the start
    initial: str = later("model")

    def __post_init__(self) -> None:
        require(self.factor >= 0, f"method.factor={self.factor} must not be negative")
        require(self.scale >= 0, f"method.scale={self.scale} must not be negative")
        known = f"method.initial={self.initial} is unknown; choose one of {', '.join(INITIAL)}"
        require(self.initial in INITIAL, known)


@register("orthonormal")
class Orthonormal(Method):
    """Minimises the risk + lambda * sum_l |W_l W_l^T - I|_F^2."""

    Config = OrthonormalOptions

    def __init__(self, options: OrthonormalOptions, model: nn.Module, generator: torch.Generator) -> None:
        super().__init__(options, model, generator)
        self.generator = generator
        self.factor: float = options.factor * options.scale
        self.penalty = OrthonormalPenalty(model, self.factor, name=f"method={options.name}")

    def prepare(self) -> None:
        """Draws orthonormal weights, if the options ask for them."""
        if self.options.initial == "orthonormal":
            for weight in self.penalty.weights:
                matrices = torch.empty(weight.matrices().shape)  # on the CPU: a seed gives the same on any device
                for matrix in matrices:
                    nn.init.orthogonal_(matrix, generator=self.generator)
                weight.assign(matrices.to(weight.tensor))

    def regularize(self) -> Tensor:
        """The penalty, ()."""
        return self.penalty.add_gradient_()
