"""What an optimizer is to the trainer, the registry that knows them by name, and torch's own."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from omegaconf import MISSING
from torch import Tensor, nn

from sns.common.registry import Registry
from sns.config.schema import require

OPTIMIZERS: Registry[type["Optimizer"]] = Registry("optimizer")
register = OPTIMIZERS.register  # a decorator: makes an Optimizer known as `optim.name=<name>`


@dataclass
class OptimOptions:
    """A learning rate with drops at fractions of all updates (section 4), as every optimizer
    has."""

    name: str = MISSING
    lr: float = MISSING
    drops: list[float] = field(default_factory=lambda: [0.5, 0.75])  # fractions of all updates
    drop_factor: float = 0.1

    def __post_init__(self) -> None:
        require(self.lr > 0, f"optim.lr={self.lr} must be positive")
        require(0 < self.drop_factor <= 1, f"optim.drop_factor={self.drop_factor} must lie in (0, 1]")
        require(
            self.drops == sorted(self.drops) and all(0 < drop < 1 for drop in self.drops),
            f"optim.drops={self.drops} must be increasing fractions between 0 and 1",
        )


class Optimizer(ABC):
    """Moves parameters by their gradients.

    Coupled weight decay (equation 2) belongs to the method, never to the optimizer.
    """

    Config: ClassVar[type]
    capturable: ClassVar[bool] = True  # whether a captured CUDA graph may contain `step`

    def __init__(self, parameters: Iterable[nn.Parameter], options: Any) -> None:
        self.parameters, self.options = list(parameters), options
        self.rate = 0.0

    @abstractmethod
    def set_rate(self, rate: float) -> None:
        """The learning rate from the next step on. A captured step follows it."""

    @abstractmethod
    def step(self) -> None:
        """One update of every parameter that has a gradient."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` gave. ValueError if it belongs to another network."""

    def zero_grad(self) -> None:
        """Drops the gradients: the next backward pass writes them rather than adding to zeros."""
        for parameter in self.parameters:
            parameter.grad = None

    def dose(self, factor: float, rate_sum: float) -> float | None:
        """How many e-folds a penalty of strength `factor` would shrink what it penalises, were the
        loss flat; `rate_sum` is the sum of the learning rates. None where that is not defined."""
        return None


class TorchOptimizer(Optimizer):
    """An optimizer of torch.optim, with its learning rate on the device where a graph needs it."""

    inner: torch.optim.Optimizer

    def initial_rate(self) -> float | Tensor:
        """The rate to build `inner` with: a tensor on a GPU, so that a captured step follows it."""
        device = self.parameters[0].device
        return torch.zeros((), device=device) if self.capturable and device.type == "cuda" else 0.0

    def set_rate(self, rate: float) -> None:
        """Sets the rate of every group of parameters."""
        self.rate = rate
        for group in self.inner.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def step(self) -> None:
        """One update, by torch."""
        self.inner.step()

    def state_dict(self) -> dict[str, Any]:
        """The state of every parameter, in their order; rates follow from the schedule."""
        return {"state": self.inner.state_dict()["state"]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores every parameter's state."""
        groups = self.inner.state_dict()["param_groups"]
        count = sum(len(group["params"]) for group in groups)
        if any(index >= count for index in state["state"]):
            raise ValueError(f"the saved optimizer has more than {count} parameters")
        self.inner.load_state_dict({"state": state["state"], "param_groups": groups})
