"""Changes of the largest singular value alone, along u v^T.

`spectral_decay` makes it smaller by a fraction of itself at every step. `spectral_hammer` sets it
to a constant. The source is Newhouse et al. (2025, arXiv 2507.13338). The authors' code,
`modula/atom.py` of lipschitz-transformers, makes 16 iterations from a fresh vector at every step.
Here the vector is that of the last step.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sns.config.schema import require
from sns.linalg.leading import Leading
from sns.method.base import register
from sns.method.projection import LeadingProjection, ProjectionMethod, require_positive


class SpectralWeightDecay(LeadingProjection):
    """W <- W - lr * factor * sigma_1 u v^T: weight decay of the largest singular value, decoupled
    from the gradient."""

    def __init__(self, model: nn.Module, factor: float = 0.1, **options: Any) -> None:
        """ConfigError for a negative factor, and as `LeadingProjection`."""
        require(factor >= 0, f"factor={factor} must not be negative")
        super().__init__(model, **options)
        self.factor = factor

    def change(self, kind: str, leading: Leading, lr: float | Tensor) -> None:
        leading.add_weight(-lr * self.factor * leading.sigma)


class SpectralHammer(LeadingProjection):
    """W <- W + (limit - sigma_1) u v^T: the largest singular value becomes `limit`.

    A smaller one rises to it, and a second one above `limit` stays for a later step.
    """

    def __init__(self, model: nn.Module, limit: float = 1.0, *, n_iterations: int = 16, **options: Any) -> None:
        """ConfigError for a limit that is not positive, and as `LeadingProjection`."""
        require_positive(limit=limit)
        super().__init__(model, n_iterations=n_iterations, **options)
        self.limit = limit

    def change(self, kind: str, leading: Leading, lr: float | Tensor) -> None:
        leading.add_weight(self.limit - leading.sigma)


@dataclass
class SpectralDecayOptions:
    """The factor is the default of the authors' code; the paper sweeps it."""

    strength: ClassVar[str] = "factor"

    name: str = "spectral_decay"
    factor: float = 0.1  # multiplied by the learning rate
    n_iterations: int = 1  # power iterations a step

    def __post_init__(self) -> None:
        require(self.factor >= 0, f"method.factor={self.factor} must not be negative")
        require_positive("method.", n_iterations=self.n_iterations)


@register("spectral_decay")
class SpectralDecay(ProjectionMethod):
    """Spectral weight decay after every step. The dose is not defined for it."""

    Config = SpectralDecayOptions

    def __init__(self, options: SpectralDecayOptions, model: nn.Module, generator: torch.Generator) -> None:
        super().__init__(options, model, generator)
        self.projection = SpectralWeightDecay(
            model, options.factor, n_iterations=options.n_iterations, generator=generator, name="method=spectral_decay"
        )


@dataclass
class SpectralHammerOptions:
    """The authors bound sigma * sqrt(inputs / outputs), here it is sigma."""

    strength: ClassVar[str] = "limit"

    name: str = "spectral_hammer"
    limit: float = 1.0  # the largest singular value after every step
    n_iterations: int = 16  # power iterations a step, as the authors; with fewer, u and v lag behind

    def __post_init__(self) -> None:
        require_positive("method.", limit=self.limit, n_iterations=self.n_iterations)


@register("spectral_hammer")
class Hammer(ProjectionMethod):
    """The spectral hammer after every step."""

    Config = SpectralHammerOptions

    def __init__(self, options: SpectralHammerOptions, model: nn.Module, generator: torch.Generator) -> None:
        super().__init__(options, model, generator)
        self.projection = SpectralHammer(
            model, options.limit, n_iterations=options.n_iterations, generator=generator, name="method=spectral_hammer"
        )
