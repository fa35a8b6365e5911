"""Nesterov SGD (section 4) by torch's fused kernel, with all its state at fixed addresses.

torch.optim.SGD does the same arithmetic. But it makes its buffers at the first step, it takes the
learning rate as a number, which a captured CUDA graph would freeze, and it imports the whole
compiler at its first call, which takes 4 s.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd

from sns.common import accelerator
from sns.config.schema import later, require
from sns.optim.base import Optimizer, OptimOptions, register


@dataclass
class NesterovOptions(OptimOptions):
    """Momentum 0.9 is the paper's."""

    name: str = later("nesterov")  # older records do not state it
    momentum: float = 0.9
    nesterov: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.momentum < 1, f"optim.momentum={self.momentum} must lie in [0, 1)")
        require(not self.nesterov or self.momentum > 0, "optim.nesterov=true needs optim.momentum > 0")

    def dose(self, factor: float, rate_sum: float) -> float:
        """factor * sum of rates / (1 - momentum)."""
        return factor * rate_sum / (1 - self.momentum)


@register("nesterov")
class NesterovSGD(Optimizer):
    """b <- m b + g, then w <- w - lr (g + m b), or w <- w - lr b without Nesterov.

    b starts at zero, and there is no dampening.
    """

    Config = NesterovOptions

    def __init__(self, parameters: Iterable[nn.Parameter], options: NesterovOptions) -> None:
        super().__init__(parameters, options)
        self.buffers = [torch.zeros_like(p) for p in self.parameters]
        device = self.parameters[0].device
        self._rate: float | Tensor = torch.zeros((), device=device) if accelerator.of(device).captures else 0.0

    def set_rate(self, rate: float) -> None:
        """Sets the rate from the next step on. A captured step reads it from a tensor."""
        if rate == self.rate:
            return
        self.rate = rate
        if isinstance(self._rate, Tensor):
            self._rate.fill_(rate)
        else:
            self._rate = rate

    @torch.no_grad()
    def step(self) -> None:
        """One update of every parameter that has a gradient."""
        ready = [(p, p.grad, b) for p, b in zip(self.parameters, self.buffers, strict=True) if p.grad is not None]
        sgd(
            [parameter for parameter, _, _ in ready],
            [gradient for _, gradient, _ in ready],
            [buffer for _, _, buffer in ready],
            fused=True,
            weight_decay=0.0,
            momentum=self.options.momentum,
            lr=self._rate,
            dampening=0.0,
            nesterov=self.options.nesterov,
            maximize=False,
        )

    def state_dict(self) -> dict[str, Any]:
        """The momentum buffers, in the order of the parameters."""
        return {"momentum": [buffer.clone() for buffer in self.buffers]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a state. ValueError if it belongs to another network."""
        for buffer, saved in zip(self.buffers, state["momentum"], strict=True):
            if buffer.shape != saved.shape:
                raise ValueError(f"a momentum buffer of shape {tuple(saved.shape)} does not fit {tuple(buffer.shape)}")
            buffer.copy_(saved)
