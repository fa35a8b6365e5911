"""All singular values near or above a limit become smaller, by odd polynomials of the weight.

`spectral_hard_cap` is min(sigma, limit). `spectral_soft_cap` changes sigma just enough to hold it
at the limit, for steps of the optimizer of a known length (Newhouse et al. 2025, arXiv 2507.13338).
"""

from abc import abstractmethod
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sns.common.precision import full_precision
from sns.config.schema import require
from sns.linalg import caps
from sns.linalg.weights import Weight
from sns.method.base import register
from sns.method.projection import ProjectionMethod, WeightProjection, require_positive


class SpectralCap(WeightProjection):
    """F W in place of W, with a function F of the Gram matrix of the weight's shorter side.

    Weights of equal shorter side are one batch. Each block of a block-diagonal weight is treated as
    a weight of its own. Nothing persists. Weights in 16 bits are computed in float32.
    """

    def __init__(self, model: nn.Module, limit: float = 1.0, **options: Any) -> None:
        """ConfigError for a limit that is not positive, and as `WeightProjection`."""
        require_positive(limit=limit)
        super().__init__(model, **options)
        self.limit = limit

    @abstractmethod
    def factor(self, gram: Tensor, lr: float | Tensor) -> Tensor:
        """F (L, m, m) for the Gram matrices (L, m, m) of weights divided by `limit`."""

    @torch.no_grad()
    def apply_(self, lr: float | Tensor) -> None:
        batches: dict[tuple[Any, ...], list[tuple[Weight, Tensor]]] = defaultdict(list)
        for weight in self.weights:
            matrices = weight.matrices()
            batches[min(matrices.shape[1:]), matrices.dtype, matrices.device].append((weight, matrices))
        for (_, _, device), batch in batches.items():
            with full_precision(device):
                grams = [w @ w.mT if _wide(w) else w.mT @ w for _, w in batch]
                factors = self.factor(torch.cat(grams) / self.limit**2, lr)
                parts = factors.split([len(gram) for gram in grams])
                for (weight, w), f in zip(batch, parts, strict=True):
                    weight.assign(f @ w if _wide(w) else w @ f)


def _wide(matrices: Tensor) -> bool:
    return matrices.shape[1] <= matrices.shape[2]


class SpectralHardCap(SpectralCap):
    """sigma <- min(sigma, limit) at every step, for the accuracy of `caps.hard_cap`."""

    def factor(self, gram: Tensor, lr: float | Tensor) -> Tensor:
        return caps.hard_cap(gram)


class SpectralSoftCap(SpectralCap):
    """sigma <- q(p(sigma)) at every step, see `caps.soft_cap`.

    The strength follows from the learning rate: what is at most limit + lr * update_norm before
    becomes at most `limit`, for lr * update_norm <= 0.3 * limit. A greater sigma, at the start of
    training or by an optimizer whose steps are not bounded, is estimated. Up to 1.3 * limit it
    becomes 1.05 * limit at most, from there on it becomes smaller by 23% a step.
    """

    def __init__(self, model: nn.Module, limit: float = 1.0, update_norm: float = 1.2, **options: Any) -> None:
        """`update_norm`: the norm of a step's change of a weight, over the learning rate."""
        require(update_norm >= 0, f"update_norm={update_norm} must not be negative")
        super().__init__(model, limit, **options)
        self.update_norm = update_norm

    def factor(self, gram: Tensor, lr: float | Tensor) -> Tensor:
        sigma = caps.eigenvalue_bounds(gram)[0].sqrt()
        expected = torch.ones_like(sigma) + lr * self.update_norm / self.limit
        return caps.soft_cap(gram, caps.soft_cap_strength(torch.maximum(sigma, expected)))


@dataclass
class HardCapOptions:
    """The authors bound sigma * sqrt(inputs / outputs), here it is sigma."""

    strength: ClassVar[str] = "limit"

    name: str = "spectral_hard_cap"
    limit: float = 1.0  # the largest singular value after every step

    def __post_init__(self) -> None:
        require_positive("method.", limit=self.limit)


@register("spectral_hard_cap")
class HardCap(ProjectionMethod):
    """The hard cap after every step."""

    Config = HardCapOptions

    def __init__(self, options: HardCapOptions, model: nn.Module, generator: torch.Generator) -> None:
        super().__init__(options, model, generator)
        self.projection = SpectralHardCap(model, options.limit, name="method=spectral_hard_cap")


@dataclass
class SoftCapOptions:
    """update_norm is that of the authors' nanogpt code for Muon, 1.145 with a margin of 5%."""

    strength: ClassVar[str] = "limit"

    name: str = "spectral_soft_cap"
    limit: float = 1.0  # the largest singular value, if the steps are as long as expected
    update_norm: float = 1.2  # expected norm of a step's change of a weight, over the learning rate

    def __post_init__(self) -> None:
        require_positive("method.", limit=self.limit)
        require(self.update_norm >= 0, f"method.update_norm={self.update_norm} must not be negative")


@register("spectral_soft_cap")
class SoftCap(ProjectionMethod):
    """The soft cap after every step."""

    Config = SoftCapOptions

    def __init__(self, options: SoftCapOptions, model: nn.Module, generator: torch.Generator) -> None:
        super().__init__(options, model, generator)
        self.projection = SpectralSoftCap(model, options.limit, options.update_norm, name="method=spectral_soft_cap")
