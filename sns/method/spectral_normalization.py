"""Spectral normalization (Miyato et al. 2018, arXiv 1802.05957): layers use W / sigma(W)."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sns.config.schema import require
from sns.linalg.weights import Weight
from sns.method.base import register
from sns.method.reparametrization import Parametrization, Reparametrization, ReparametrizationMethod


class Normalized(Parametrization):
    """W / sigma(W). The gradient passes through sigma; u and v are constant (equation 10)."""

    def used(self, tensor: Tensor, sigma: Tensor, u: Tensor, v: Tensor) -> Tensor:
        return self.scaled(tensor, 1.0 / self.norms(sigma))


class SpectralNormalization(Reparametrization):
    """Every weight matrix has spectral norm 1, as far as the power iteration has converged."""

    def parametrization(self, weight: Weight, generator: torch.Generator) -> Parametrization:
        return Normalized(weight, generator)


@dataclass
class SpectralNormalizationOptions:
    """One power iteration an update is the paper's."""

    name: str = "spectral_normalization"
    n_iterations: int = 1  # power iterations an update, which start from v of the last

    def __post_init__(self) -> None:
        require(self.n_iterations >= 1, f"method.n_iterations={self.n_iterations} must be at least 1")


@register("spectral_normalization")
class SpectralNormalizationMethod(ReparametrizationMethod):
    """Minimises the risk of the network with normalised weights."""

    Config = SpectralNormalizationOptions

    def make(self, **general: Any) -> SpectralNormalization:
        return SpectralNormalization(self.model, **general)
