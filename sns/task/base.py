"""What a task is to the trainer: the one seam between them. The registry knows tasks by name.

A task owns what one update and one evaluation mean. The trainer (sns/train) owns everything that is
the same for every task: the loop, the learning rate's schedule, modes, checkpoints, stopping, the
record. It names no task, and a task names no method.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import nn

from sns.common.errors import UserError
from sns.common.ranks import ALONE, Ranks
from sns.common.registry import Registry
from sns.config.schema import Config
from sns.optim import Optimizer
from sns.record.schema import Column, Score
from sns.task.length import Length
from sns.task.running import Running

TASKS: Registry[type["Task"]] = Registry("task")
register = TASKS.register  # a decorator: makes a Task known as `task.name=<name>`
Row = dict[str, float]


@dataclass
class Options:
    """Options of a task without options."""

    name: str = ""


@dataclass(frozen=True)
class Setup:
    """What the trainer has decided before a task is built."""

    config: Config
    device: torch.device
    ranks: Ranks = ALONE
    memory_format: torch.memory_format = torch.contiguous_format


class Pieces(Protocol):
    """The final measurements of a run, made piece by piece: each is made once, even if the run is
    stopped between two of them and resumed."""

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` gives, now or in an earlier session: plain numbers and containers of them."""

    def table(self, file: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes a CSV file into the run directory."""


@dataclass
class Sizes:
    """Examples that go through the network at once, where memory decides."""

    train: int
    measure: int


class Task(ABC):
    """One run's data, networks, method and optimizers.

    A subclass sets the attributes below in `__init__(setup)` and leaves its networks in training
    mode.
    """

    Config: ClassVar[type] = Options
    columns: ClassVar[Sequence[Column]]  # of history.csv, beyond those that every run has
    score: ClassVar[Score]  # which row is best

    length: Length
    optimizers: Sequence[Optimizer]
    running: Running
    sizes: Sizes
    factor: float | None = None  # lambda of the method's penalty; None without one
    generators: Sequence[torch.Generator] = ()  # that `update` draws from, besides torch's own
    notes: list[str]  # what the user should read before the first update

    def __init__(self, setup: Setup) -> None:
        self.setup, self.notes = setup, []

    @abstractmethod
    def draw(self) -> None:
        """The host's part of one update: chooses the examples and writes their indices, or what
        else the device needs, to fixed places. Never waits for the device."""

    @abstractmethod
    def update(self) -> None:
        """The device's part of one update: gradients, the optimizer's step, the running sums.

        Static shapes, fixed addresses and no wait, so that it can be captured as a CUDA graph.
        """

    @abstractmethod
    def evaluate(self) -> Row:
        """A value for each of `columns` at the present weights. Changes no state but the running
        sums, which start again."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Everything that the following updates depend on."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` gave. UserError where the data are others than then."""

    def final(self, pieces: Pieces) -> dict[str, Any]:
        """What is measured once, at the end of training, for `Result.measured`."""
        return {}

    def summary(self, history: Sequence[Row]) -> dict[str, Any]:
        """What follows from the history, for `Result.measured`."""
        return {}

    def facts(self) -> dict[str, Any]:
        """What a reader of the record must know of the data, for `Result.environment`."""
        return {}

    def compile(self, compiled: Callable[[nn.Module], Callable[..., Any]]) -> None:
        """Lets the networks run through `compiled`. UserError where the task does not support that."""
        raise UserError(f"task={self.setup.config.task.name} does not support train.mode=compile; use eager")
