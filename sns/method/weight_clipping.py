"""Weight clipping (Arjovsky et al. 2017, arXiv 1701.07875): every entry of W stays in [-c, c]."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from sns.method.base import register
from sns.method.projection import ProjectionMethod, WeightProjection, require_positive


class WeightClipping(WeightProjection):
    """Entries of the weight matrices that are larger than `limit` become `limit`, with their sign.
    Biases stay."""

    def __init__(self, model: nn.Module, limit: float = 0.01, *, name: str | None = None, **which: bool) -> None:
        super().__init__(model, name=name, **which)
        require_positive(limit=limit)
        self.limit = limit

    @torch.no_grad()
    def apply_(self, lr: float | Tensor = 0.0) -> None:
        """Clips. The learning rate has no effect."""
        for weight in self.weights:
            weight.changeable().clamp_(-self.limit, self.limit)


@dataclass
class WeightClippingOptions:
    """The paper's c is 0.01, also in Miyato et al. 2018."""

    strength: ClassVar[str] = "limit"

    name: str = "weight_clipping"
    limit: float = 0.01  # c, of every entry of a weight matrix

    def __post_init__(self) -> None:
        require_positive("method.", limit=self.limit)


@register("weight_clipping")
class WeightClippingMethod(ProjectionMethod):
    """Minimises the risk over weights with entries in [-c, c]."""

    Config = WeightClippingOptions

    def __init__(self, options: WeightClippingOptions, model: nn.Module, generator: torch.Generator) -> None:
        super().__init__(options, model, generator)
        self.projection = WeightClipping(model, options.limit, name=f"method={options.name}")
