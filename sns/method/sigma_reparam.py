"""sigma-reparametrisation (Zhai et al. 2023, arXiv 2303.06296): gamma W / sigma(W)."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sns.config.schema import require
from sns.linalg.weights import Weight
from sns.method.base import register
from sns.method.reparametrization import (
    Parametrization,
    Reparametrization,
    ReparametrizationMethod,
    ReparametrizationOptions,
)

STARTS = ("one", "sigma")


class SigmaScaled(Parametrization):
    """gamma W / sigma(W), with one gamma for each weight matrix of the tensor, (K,)."""

    def __init__(self, weight: Weight, generator: torch.Generator, gamma: str) -> None:
        """`gamma`: as in SigmaReparam."""
        super().__init__(weight, generator)
        tensor: Tensor = getattr(weight.module, weight.attribute).detach()
        first = tensor.new_ones(self.count)
        if gamma == "sigma":
            first = self.norms(torch.linalg.matrix_norm(self.matrices(tensor), 2)).to(first)
        self.gamma = nn.Parameter(first)

    def used(self, tensor: Tensor, sigma: Tensor, u: Tensor, v: Tensor) -> Tensor:
        return self.scaled(tensor, self.gamma / self.norms(sigma))


class SigmaReparam(Reparametrization):
    """Every weight matrix has a spectral norm |gamma| that is learnt."""

    def __init__(self, model: nn.Module, *, gamma: str = "one", **options: object) -> None:
        """`gamma`, its first value: one, as in the paper, or sigma, which leaves the network as it
        is, as in vision/layers.py of apple/ml-sigma-reparam."""
        require(gamma in STARTS, f"gamma={gamma} is unknown; choose one of {', '.join(STARTS)}")
        self.gamma = gamma
        super().__init__(model, **options)  # type: ignore[arg-type]

    def parametrization(self, weight: Weight, generator: torch.Generator) -> Parametrization:
        return SigmaScaled(weight, generator, self.gamma)


@dataclass
class SigmaReparamOptions(ReparametrizationOptions):
    """The paper's gamma begins at 1."""

    name: str = "sigma_reparam"
    gamma: str = "one"  # its first value: one | sigma, the norm that the weight has then

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.gamma in STARTS, f"method.gamma={self.gamma} is unknown; choose one of {', '.join(STARTS)}")


@register("sigma_reparam")
class SigmaReparamMethod(ReparametrizationMethod):
    """Minimises the risk over weights and gammas."""

    Config = SigmaReparamOptions

    def make(self, **general: Any) -> SigmaReparam:
        return SigmaReparam(self.model, gamma=self.options.gamma, **general)
