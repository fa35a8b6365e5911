"""Spectral normalization (Miyato et al. 2018, arXiv 1802.05957): layers use W / sigma(W)."""

from dataclasses import dataclass
from typing import Any, ClassVar

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


class Normalized(Parametrization):
    """norm * W / sigma(W). The gradient passes through sigma: their equation 10."""

    def __init__(self, weight: Weight, generator: torch.Generator, norm: float) -> None:
        super().__init__(weight, generator)
        self.norm = norm

    def used(self, tensor: Tensor, sigma: Tensor, u: Tensor, v: Tensor) -> Tensor:
        return self.scaled(tensor, self.norm / self.norms(sigma))


class SpectralNormalization(Reparametrization):
    """Every weight matrix has spectral norm `norm`, once the power iteration has converged."""

    def __init__(self, model: nn.Module, *, norm: float = 1.0, **options: object) -> None:
        require(norm > 0, f"norm={norm} must be positive")
        self.norm = norm
        super().__init__(model, **options)  # type: ignore[arg-type]

    def parametrization(self, weight: Weight, generator: torch.Generator) -> Parametrization:
        return Normalized(weight, generator, self.norm)


@dataclass
class SpectralNormalizationOptions(ReparametrizationOptions):
    """The paper's norm is 1. The network's slope is then at most 1, but for its batch norm."""

    strength: ClassVar[str] = "norm"

    name: str = "spectral_normalization"
    norm: float = 1.0  # of every weight matrix

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.norm > 0, f"method.norm={self.norm} must be positive")


@register("spectral_normalization")
class SpectralNormalizationMethod(ReparametrizationMethod):
    """Minimises the risk of the network with normalised weights."""

    Config = SpectralNormalizationOptions

    def make(self, **general: Any) -> SpectralNormalization:
        return SpectralNormalization(self.model, norm=self.options.norm, **general)
