"""Spectral norm regularisation (section 3.2, equation 1).

It adds lambda / 2 * sum_l sigma(W_l)^2 to the risk.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from sns.config.schema import later, require
from sns.method.base import register
from sns.method.penalty import PenaltyMethod, SigmaPenalty


class SpectralNormPenalty(SigmaPenalty):
    """factor / 2 * sum_l sigma(W_l)^2: adds lambda * sigma * u v^T to every gradient (Algorithm 1,
    corrected)."""

    def __init__(self, model: nn.Module, factor: float = 0.01, **options: object) -> None:
        super().__init__(model, factor, **options)  # type: ignore[arg-type]

    @staticmethod
    def value(sigma: Tensor) -> Tensor:
        """sigma^2."""
        return sigma.square()

    @staticmethod
    def slope(sigma: Tensor) -> Tensor:
        """sigma."""
        return sigma


@dataclass
class SpectralOptions:
    """The paper's lambda is 0.01, with one power iteration a step."""

    strength: ClassVar[str] = "factor"

    name: str = "spectral"
    factor: float = 0.01  # lambda, before `scale`
    n_iterations: int = 1  # power iterations a step, which start from v of the last step
    scale: float = later(1.0)  # lambda is factor * scale: a setting matches the paper's dose by it

    def __post_init__(self) -> None:
        require(self.factor >= 0, f"method.factor={self.factor} must not be negative")
        require(self.scale >= 0, f"method.scale={self.scale} must not be negative")
        require(self.n_iterations >= 1, f"method.n_iterations={self.n_iterations} must be at least 1")


@register("spectral")
class Spectral(PenaltyMethod):
    """Minimises the risk + lambda / 2 * sum_l sigma(W_l)^2."""

    Config = SpectralOptions
    Penalty = SpectralNormPenalty
