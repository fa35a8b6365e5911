"""AdamW (Loshchilov & Hutter 2019), torch's own: Adam with decoupled weight decay."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from sns.config.schema import require
from sns.optim.adam import AdamOptions
from sns.optim.base import TorchOptimizer, register


@dataclass
class AdamWOptions(AdamOptions):
    """The defaults are torch's."""

    name: str = "adamw"
    weight_decay: float = 0.01  # decoupled: w <- w - lr * weight_decay * w; not equation 2

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.weight_decay >= 0, f"optim.weight_decay={self.weight_decay} must not be negative")


@register("adamw")
class AdamW(TorchOptimizer):
    """AdamW. The dose of a penalty is not defined, since Adam divides each gradient by its size."""

    Config = AdamWOptions

    def __init__(self, parameters: Iterable[nn.Parameter], options: AdamWOptions) -> None:
        super().__init__(parameters, options)
        self.inner = torch.optim.AdamW(
            self.parameters,
            lr=self.initial_rate(),
            betas=(options.betas[0], options.betas[1]),
            eps=options.eps,
            weight_decay=options.weight_decay,
            capturable=self.parameters[0].device.type == "cuda",
        )
