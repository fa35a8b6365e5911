"""Adam (Kingma & Ba 2015), torch's own."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from sns.common import accelerator
from sns.config.schema import require
from sns.optim.base import OptimOptions, TorchOptimizer, register


@dataclass
class AdamOptions(OptimOptions):
    """The defaults are torch's."""

    name: str = "adam"
    lr: float = 1e-3
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    eps: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas),
            f"optim.betas={self.betas} must be two numbers in [0, 1)",
        )
        require(self.eps > 0, f"optim.eps={self.eps} must be positive")


@register("adam")
class Adam(TorchOptimizer):
    """Adam. The dose of a penalty is not defined, since Adam divides each gradient by its size."""

    Config = AdamOptions

    def __init__(self, parameters: Iterable[nn.Parameter], options: AdamOptions) -> None:
        super().__init__(parameters, options)
        self.inner = self.make(
            params=self.parameters,
            lr=self.initial_rate(),
            betas=(options.betas[0], options.betas[1]),
            eps=options.eps,
            capturable=accelerator.of(self.parameters[0].device).captures,
        )

    def make(self, **arguments: Any) -> torch.optim.Optimizer:
        """torch's optimizer, from what Adam and AdamW share."""
        return torch.optim.Adam(**arguments)
