"""What a method is to a task, and the registry that knows methods by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sns.common.registry import Registry

Sums = Mapping[str, Tensor]  # sums over the examples of a pass, (), on the device: the loss, and what a task adds
Risk = Callable[[Tensor, float], Sums]  # a task's empirical risk of one pass, see `Method.backward`

METHODS: Registry[type["Method"]] = Registry("method")
register = METHODS.register  # a decorator: makes a Method known as `method.name=<name>`


@dataclass
class Options:
    """Options of a method without options."""

    name: str = "vanilla"


class Method:
    """Empirical risk minimisation. Other methods override one hook or several.

    An update of B examples calls `backward` once for each pass (one, or more with `batch.micro`),
    then `regularize` once. Together they leave in every `.grad` the gradient of what the method
    minimises. Then the optimizer steps, and `project` is called. Shapes are static and nothing
    waits for the device. State that outlives an update is tensors in `state_dict`.
    """

    Config: ClassVar[type] = Options
    factor: float | None = None  # lambda of the penalty, for the dose; None without a penalty

    def __init__(self, options: Any, model: nn.Module, generator: torch.Generator) -> None:
        """`model` is on its device; `generator` is the run's stream for the method's own
        randomness, on the CPU."""
        self.options = options
        self.model = model

    def prepare(self) -> None:
        """Called once, before the optimizer exists: may reparametrise the weights of the model."""

    def backward(self, risk: Risk, x: Tensor, share: float) -> Sums:
        """Adds `share` times the gradient of the mean data loss over the inputs x (N, ...) to
        `.grad`.

        `risk(x, share)` does that for the plain loss, and for x.grad where x requires a gradient;
        it knows the targets of x. `share` is the part of the batch that x is, N / B. Called in
        training mode. Returns the sums that `risk` gives for the clean inputs.
        """
        return risk(x, share)

    def regularize(self) -> Tensor | None:
        """Adds the gradient of the penalty to `.grad`. Returns the penalty's value, (), or None."""
        return None

    def project(self) -> None:
        """Called after the optimizer's step: may move the weights back into a set."""

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors that a resumed run needs."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restores what `state_dict` gave."""
