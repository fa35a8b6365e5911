"""The interface of optimizers, their registry, and the base class of those from torch.optim."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sns.common import accelerator
from sns.common.registry import Registry
from sns.config.schema import MISSING, later, require

OPTIMIZERS: Registry[type["Optimizer"]] = Registry("optimizer")
register = OPTIMIZERS.register  # a decorator: makes an Optimizer known as `optim.name=<name>`


@dataclass
class OptimOptions:
    """Options of every optimizer: a learning rate that drops during the run (section 4)."""

    name: str = MISSING
    lr: float = MISSING
    drops: list[float] = field(default_factory=lambda: [0.5, 0.75])  # fractions of all updates
    drop_factor: float = 0.1  # multiplies the rate at each drop
    decay_from: float | None = later(None)  # fraction of all updates from which the rate falls linearly to 0

    def __post_init__(self) -> None:
        require(self.lr > 0, f"optim.lr={self.lr} must be positive")
        require(0 < self.drop_factor <= 1, f"optim.drop_factor={self.drop_factor} must lie in (0, 1]")
        start = self.decay_from
        require(start is None or 0 <= start < 1, f"optim.decay_from={start} must lie in [0, 1), or be null")
        require(
            self.drops == sorted(self.drops) and all(0 < drop < 1 for drop in self.drops),
            f"optim.drops={self.drops} must be increasing fractions between 0 and 1",
        )

    def dose(self, factor: float, rate_sum: float) -> float | None:
        """The dose of a penalty of strength `factor`; None if it is not defined for this optimizer.

        The dose is the number of e-folds by which the penalty alone, with a flat loss, would shrink
        what it penalises. `rate_sum` is the sum of the learning rates.
        """
        return None


class Optimizer(ABC):
    """Updates parameters from their gradients.

    Coupled weight decay (equation 2) is a method and never part of an optimizer.
    """

    Config: ClassVar[type]
    capturable: ClassVar[bool] = True  # whether a captured CUDA graph may contain `step`

    def __init__(self, parameters: Iterable[nn.Parameter], options: Any) -> None:
        self.parameters, self.options = list(parameters), options
        self.rate = 0.0

    @abstractmethod
    def set_rate(self, rate: float) -> None:
        """Sets the learning rate from the next step on, also for a captured step."""

    @abstractmethod
    def step(self) -> None:
        """One update of every parameter that has a gradient."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """The state that a resumed run needs."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a state. ValueError if it belongs to another network."""

    def zero_grad(self) -> None:
        """Deletes the gradients: the next backward pass writes them instead of adding to zeros."""
        for parameter in self.parameters:
            parameter.grad = None


class TorchOptimizer(Optimizer):
    """An optimizer of torch.optim, with its learning rate on the device if a graph needs it."""

    inner: torch.optim.Optimizer

    def initial_rate(self) -> float | Tensor:
        """The rate to build `inner` with: on a GPU a tensor, so that a captured step follows it."""
        device = self.parameters[0].device
        return torch.zeros((), device=device) if self.capturable and accelerator.of(device).captures else 0.0

    def set_rate(self, rate: float) -> None:
        """Sets the rate of every parameter group."""
        self.rate = rate
        for group in self.inner.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def step(self) -> None:
        """One update by torch."""
        self.inner.step()

    def state_dict(self) -> dict[str, Any]:
        """The state of every parameter in order, without the rates, which the schedule sets."""
        return {"state": self.inner.state_dict()["state"]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores every parameter's state."""
        groups = self.inner.state_dict()["param_groups"]
        count = sum(len(group["params"]) for group in groups)
        if any(index >= count for index in state["state"]):
            raise ValueError(f"the saved optimizer has more than {count} parameters")
        self.inner.load_state_dict({"state": state["state"], "param_groups": groups})
