"""The interface between a method and a task, and the registry of methods."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from sns.common.registry import Registry
from sns.config.schema import require
from sns.linalg.weights import Weight, left_out, weights_of
from sns.record.schema import Column

Sums = Mapping[str, Tensor]  # sums over the examples of a pass, (), on the device: the loss and a task's metrics
Term = Callable[[Tensor], Tensor | float]  # of the network's outputs (N, ...): what is added to the mean loss, ()

METHODS: Registry[type["Method"]] = Registry("method")
register = METHODS.register  # a decorator: makes a Method known as `method.name=<name>`


def no_term(outputs: Tensor) -> float:
    """Adds nothing to the loss."""
    return 0.0


class Risk(Protocol):
    """A task's empirical risk of one pass, see `Method.backward`."""

    def __call__(self, x: Tensor, share: float, term: Term = no_term, /) -> Sums:
        """Adds `share` times the gradient of mean loss + term to `.grad`. Returns the sums."""


def trained_weights(name: str, model: nn.Module, **which: bool) -> list[Weight]:
    """The weight matrices that a method or penalty acts on: all but frozen ones.

    `name` says in messages who asks; `which` is as in `weights_of`. Warns, in one line, of the
    parameters that it leaves out. ConfigError where there are no matrices.
    """
    weights = [weight for weight in weights_of(model, **which) if weight.trained]
    require(bool(weights), f"{name} needs weight matrices to train, and this network has none")
    if names := left_out(model, **which):
        shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        warnings.warn(f"{name} leaves out {shown}: neither convolution, linear, attention nor recurrent", stacklevel=2)
    return weights


@dataclass
class Options:
    """The options of a method that has none."""

    name: str = "vanilla"


class Method:
    """Empirical risk minimisation. Other methods override one or more of the four hooks.

    An update of B examples calls `backward` once for each pass (more than one with `batch.micro`),
    then `regularize` once. Together they leave in every `.grad` the gradient of what the method
    minimises. Then the optimizer makes its step, and `project` is called. Shapes are static and the
    host never waits for the device. `state_dict` holds the tensors that outlive an update.
    """

    Config: ClassVar[type] = Options
    rate: Tensor  # (), the learning rate of the present update, on the model's device
    factor: float | None = None  # lambda of a penalty on the weights; None without one, or where it has no dose
    generators: Sequence[torch.Generator] = ()  # those on the device; their states belong to `state_dict`
    second_order: ClassVar[bool] = False  # whether `backward` differentiates gradients of the network
    term_passes: float = 0.0  # about how many plain passes the term that it adds costs, for estimates of time

    def __init__(self, options: Any, model: nn.Module, generator: torch.Generator) -> None:
        """`model` is on its device. `generator`, on the CPU, is for the method's random numbers."""
        self.options = options
        self.model = model
        self.rate = torch.zeros((), device=next(model.parameters()).device)
        self._rate = 0.0

    @classmethod
    def columns(cls, options: Any) -> Sequence[Column]:
        """Columns of history.csv that this method adds with these options."""
        return ()

    def measures(self) -> dict[str, float]:
        """The present value of each of `columns`. May wait for the device."""
        return {}

    def mean_factor(self) -> float | None:
        """lambda of the whole run, for its dose: `factor`, where it does not change."""
        return self.factor

    def prepare(self) -> None:
        """Called once, before the optimizer is built. May reparametrise the model's weights."""

    def set_rate(self, rate: float) -> None:
        """Called before every update with its learning rate; not part of a captured graph."""
        if rate != self._rate:
            self._rate = rate
            self.rate.fill_(rate)

    def backward(self, risk: Risk, x: Tensor, share: float) -> Sums:
        """Adds `share` times the gradient of the mean data loss over inputs x (N, ...) to `.grad`.

        `risk(x, share)` does this for the plain loss, also for x.grad if x requires a gradient. It
        includes the targets of x. `risk(x, share, term)` adds `term(outputs)` to the mean loss; the
        network's outputs come with their graph from the same forward pass, so that its masks and
        batch statistics are shared. `share` is N / B, the part of the batch in this pass. Called
        in training mode. Returns the sums that `risk` returns for the clean inputs.
        """
        return risk(x, share)

    def regularize(self) -> Tensor | None:
        """Adds the gradient of the penalty to `.grad`. Returns the penalty's value, (), or None."""
        return None

    def project(self) -> None:
        """Called after the optimizer's step. May project the weights onto a set."""

    def state_dict(self) -> dict[str, Tensor]:
        """The tensors that a resumed run needs."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restores a state."""
