"""Spectral norm regularisation (section 3.2, equation 1).

It adds lambda / 2 * sum_l sigma(W_l)^2 to the risk.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sns.config.schema import later, require
from sns.method.base import register
from sns.method.penalty import PenaltyMethod, SigmaPenalty, WeightPenalty
from sns.method.published import ALGORITHMS
from sns.method.strength import Strength

CORRECTED = "corrected"


class SpectralNormPenalty(SigmaPenalty):
    """factor / 2 * sum_l sigma(W_l)^2: adds lambda * sigma * u v^T to every gradient (Algorithm 1,
    corrected)."""

    def __init__(self, model: nn.Module, factor: float = 0.01, *, half: bool = True, **options: object) -> None:
        """`half=False`: factor * sum_l sigma(W_l)^2, as much public code has it. `options`: as
        `SigmaPenalty`."""
        super().__init__(model, factor if half else 2 * factor, **options)  # type: ignore[arg-type]

    @staticmethod
    def value(sigma: Tensor) -> Tensor:
        """sigma^2."""
        return sigma.square()

    @staticmethod
    def slope(sigma: Tensor) -> Tensor:
        """sigma."""
        return sigma


@dataclass
class SigmaOptions(Strength):
    """Options of a penalty on sigmas: the paper's lambda, 0.01, and one power iteration a step."""

    published: ClassVar[float] = 0.01

    n_iterations: int = 1  # power iterations a step, which start from v of the last step

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.n_iterations >= 1, f"method.n_iterations={self.n_iterations} must be at least 1")


@dataclass
class SpectralOptions(SigmaOptions):
    """The paper's penalty, and how public code differs from it."""

    name: str = "spectral"
    half: bool = later(True)  # False: lambda sigma^2 instead of lambda/2 sigma^2
    fresh: bool = later(False)  # every step starts from a new random v
    # lambda is adapted until the geometric mean of the layers' sigmas is this: TargetFactor; None:
    # lambda does not change
    target_sigma: float | None = later(None)
    algorithm: str = later(CORRECTED)  # or as public code has it: sns/method/published.py

    def __post_init__(self) -> None:
        super().__post_init__()
        known = (CORRECTED, *ALGORITHMS)
        require(
            self.algorithm in known, f"method.algorithm={self.algorithm} is unknown; choose one of {', '.join(known)}"
        )
        changed = {
            "dose": self.dose is not None,
            "half": not self.half,
            "fresh": self.fresh,
            "target_sigma": self.target_sigma is not None,
        }
        for option in (name for name, on in changed.items() if on):
            only = f"method.{option} is defined for method.algorithm={CORRECTED} only"
            require(self.algorithm == CORRECTED, only)
        require(
            self.dose is None or self.half, "method.dose is the dose of lambda/2 sigma^2: it needs method.half=true"
        )
        if self.target_sigma is not None:
            require(self.target_sigma > 0, f"method.target_sigma={self.target_sigma} must be positive")
            require(self.dose is None, "method.target_sigma adapts lambda, so that it cannot have a method.dose")
            require(self.factor != 0, "method.target_sigma multiplies method.factor, which must be positive")


@register("spectral")
class Spectral(PenaltyMethod):
    """Minimises the risk + lambda / 2 * sum_l sigma(W_l)^2."""

    Config = SpectralOptions
    Penalty = SpectralNormPenalty

    def __init__(self, options: SpectralOptions, model: nn.Module, generator: torch.Generator) -> None:
        assert options.dose is None  # `at_dose` replaces it by a factor
        super().__init__(options, model, generator)
        if options.algorithm != CORRECTED:
            self.factor = None  # the dose is that of lambda/2 sigma^2
        elif self.factor is not None and not options.half:
            self.factor *= 2

    def make(self, factor: float, generator: torch.Generator) -> WeightPenalty:
        """The penalty of `algorithm`."""
        published = ALGORITHMS.get(self.options.algorithm)
        if published is None:
            return super().make(factor, generator)
        n, name = self.options.n_iterations, f"method={self.options.name}"
        return published(self.model, factor, n_iterations=n, generator=generator, name=name)

    def arguments(self, generator: torch.Generator) -> dict[str, Any]:
        """With the options of this penalty."""
        options = self.options
        own = {"half": options.half, "fresh": options.fresh, "target_sigma": options.target_sigma}
        return super().arguments(generator) | own
