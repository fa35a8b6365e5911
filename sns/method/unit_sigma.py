"""Largest singular values near 1: adds lambda / 2 * sum_l (sigma(W_l) - 1)^2 to the risk.

After Lewandowski et al. 2025 (arXiv 2406.06811), for continual learning.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from sns.method.base import register
from sns.method.penalty import PenaltyMethod, SigmaPenalty
from sns.method.spectral import SigmaOptions


class UnitSigmaPenalty(SigmaPenalty):
    """factor / 2 * sum_l (sigma(W_l) - 1)^2."""

    def __init__(self, model: nn.Module, factor: float = 0.01, **options: object) -> None:
        super().__init__(model, factor, **options)  # type: ignore[arg-type]

    @staticmethod
    def value(sigma: Tensor) -> Tensor:
        """(sigma - 1)^2."""
        return (sigma - 1.0).square()

    @staticmethod
    def slope(sigma: Tensor) -> Tensor:
        """sigma - 1."""
        return sigma - 1.0


@dataclass
class UnitSigmaOptions(SigmaOptions):
    """The options of `spectral`, with its lambda, 0.01."""

    name: str = "unit_sigma"


@register("unit_sigma")
class UnitSigma(PenaltyMethod):
    """Minimises the risk + lambda / 2 * sum_l (sigma(W_l) - 1)^2."""

    Config = UnitSigmaOptions
    Penalty = UnitSigmaPenalty
