"""AdamW (Loshchilov & Hutter 2019), torch's own: Adam with decoupled weight decay."""

from dataclasses import dataclass
from typing import Any

import torch

from sns.config.schema import require
from sns.optim.adam import Adam, AdamOptions
from sns.optim.base import register


@dataclass
class AdamWOptions(AdamOptions):
    """The defaults are torch's."""

    name: str = "adamw"
    weight_decay: float = 0.01  # decoupled: w <- w - lr * weight_decay * w; not equation 2

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.weight_decay >= 0, f"optim.weight_decay={self.weight_decay} must not be negative")


@register("adamw")
class AdamW(Adam):
    """AdamW. The dose of a penalty is not defined, since Adam divides each gradient by its size."""

    Config = AdamWOptions

    def make(self, **arguments: Any) -> torch.optim.Optimizer:
        """torch's AdamW, with its decay."""
        return torch.optim.AdamW(**arguments, weight_decay=self.options.weight_decay)
