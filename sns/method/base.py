"""What a training problem is to the trainer, and the registry that knows them by name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sns.common.precision import autocast

METHODS: dict[str, type["Method"]] = {}


@dataclass
class Options:
    """Options of a method without options."""

    name: str = "vanilla"


@dataclass(frozen=True)
class Step:
    """What a pass over clean training images showed: sums over its images, on the device."""

    loss: Tensor  # sum of the cross entropy, ()
    correct: Tensor  # number of correct predictions, ()


class Method:
    """Empirical risk minimisation; other problems override `backward`, `regularize` or both.

    A training step of B images calls `backward` once for each pass (one, or more with
    `batch.micro`), then `regularize` once; together they leave in every `.grad` the gradient of
    what the method minimises. Shapes are static and nothing waits for the device. State that
    outlives a step is tensors in `state_dict`.
    """

    Config: ClassVar[type] = Options
    factor: float | None = None  # lambda of the penalty, for the dose; None without a penalty

    precision: str = "fp32"  # of the forward pass; the trainer sets it

    def __init__(self, options: Any, model: nn.Module, generator: torch.Generator) -> None:
        """`generator` is the run's stream for the method's own randomness, on the CPU."""
        self.options = options
        self.model = model
        self.network: Callable[[Tensor], Tensor] = model  # what a pass calls: the model, or its compiled form

    def logits(self, x: Tensor) -> Tensor:
        """The model at the run's training precision: (N, C, H, W) to (N, classes), fp32."""
        with autocast(self.precision, x.device):
            out = self.network(x)
        return out.float()

    def risk(self, x: Tensor, y: Tensor, share: float) -> Step:
        """Empirical risk of one pass: adds share * mean cross entropy's gradient to `.grad`, and to
        x.grad if wanted.
        """
        logits = self.logits(x)
        loss = F.cross_entropy(logits, y)
        (loss * share).backward()
        with torch.no_grad():
            return Step(loss.detach() * len(y), (logits.argmax(dim=1) == y).sum())

    def backward(self, x: Tensor, y: Tensor, share: float) -> Step:
        """Adds `share` times the gradient of the mean data loss over x (N, C, H, W), y (N,) to
        `.grad`.

        `share` is the part of the batch that x is, N / B. Called in training mode.
        """
        return self.risk(x, y, share)

    def regularize(self) -> Tensor | None:
        """Adds the gradient of the penalty to `.grad`; returns the penalty's value, (), or None
        without one."""
        return None

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors that a resumed run needs."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restores what `state_dict` gave."""


M = TypeVar("M", bound=Method)


def register(name: str) -> Callable[[type[M]], type[M]]:
    """Makes a Method known as `method.name=<name>`; ValueError if the name is taken by another
    class."""

    def add(cls: type[M]) -> type[M]:
        if METHODS.setdefault(name, cls) is not cls:
            raise ValueError(f"a method named {name!r} is already registered")
        return cls

    return add
