"""Stable rank normalization (Sanyal et al. 2020, arXiv 1906.04659): sigma 1, |W|_F^2 <= r."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sns.config.schema import require
from sns.linalg.power_iteration import TINY
from sns.linalg.weights import Weight, from_matrices
from sns.method.base import register
from sns.method.reparametrization import Parametrization, Reparametrization, ReparametrizationMethod
from sns.method.spectral_normalization import SpectralNormalizationOptions


class StableRankLimited(Parametrization):
    """norm * (u v^T + s R) with R = W / sigma - u v^T and s = min(1, sqrt(r - 1) / |R|_F).

    At norm 1 it is the nearest matrix to W / sigma with this largest singular value and a stable
    rank |W|_F^2 / sigma^2 of at most r (their algorithm). r is `rank` times min(m, n), at least 1.
    """

    def __init__(self, weight: Weight, generator: torch.Generator, rank: float, norm: float) -> None:
        super().__init__(weight, generator)
        self.norm = norm
        together = self.blocks if self.joint else 1  # blocks of one matrix
        self.rest = max(rank * together * min(self.rows, self.columns) - 1, 0.0)  # r - 1

    def used(self, tensor: Tensor, sigma: Tensor, u: Tensor, v: Tensor) -> Tensor:
        leading = u.unsqueeze(2) * v.unsqueeze(1)
        if self.joint:  # the norm is that of one block
            largest = torch.zeros_like(sigma).scatter_(0, sigma.detach().argmax(0, keepdim=True), 1.0)
            leading = leading * largest.view(-1, 1, 1)
        rest = self.matrices(tensor) / self.norms(sigma).view(-1, 1, 1) - leading
        square = rest.square().sum((1, 2))
        square = square.sum(0, keepdim=True) if self.joint else square
        shrink = self.rest**0.5 * square.clamp_min(max(self.rest, TINY**2)).rsqrt()
        return from_matrices(self.norm * (leading + rest * shrink.view(-1, 1, 1)), tensor, self.transposed)


class StableRankNormalization(Reparametrization):
    """Every weight matrix has spectral norm `norm` and a stable rank of at most rank min(m, n)."""

    def __init__(self, model: nn.Module, *, rank: float = 0.7, norm: float = 1.0, **options: object) -> None:
        """`rank` in (0, 1]; with 1 it is spectral normalization."""
        require(0 < rank <= 1, f"rank={rank} must lie in (0, 1]")
        require(norm > 0, f"norm={norm} must be positive")
        self.rank, self.norm = rank, norm
        super().__init__(model, **options)  # type: ignore[arg-type]

    def parametrization(self, weight: Weight, generator: torch.Generator) -> Parametrization:
        return StableRankLimited(weight, generator, self.rank, self.norm)


@dataclass
class StableRankOptions(SpectralNormalizationOptions):
    """rank = 0.7 is the default of the author's implementation."""

    strength: ClassVar[str] = "rank"

    name: str = "stable_rank"
    rank: float = 0.7  # c in (0, 1]: the stable rank is at most c * min(m, n)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.rank <= 1, f"method.rank={self.rank} must lie in (0, 1]")


@register("stable_rank")
class StableRankMethod(ReparametrizationMethod):
    """Minimises the risk of the network with normalised weights."""

    Config = StableRankOptions

    def make(self, **general: Any) -> StableRankNormalization:
        return StableRankNormalization(self.model, rank=self.options.rank, norm=self.options.norm, **general)
