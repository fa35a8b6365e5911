"""The interface between a task and the trainer, and the registry of tasks.

A task defines one update and one evaluation. The trainer (sns/train) does everything that is the
same for every task: the loop, the learning-rate schedule, modes, checkpoints, stopping, the record.
The trainer names no task, and a task names no method.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import nn

from sns.common.errors import UserError
from sns.common.ranks import ALONE, Ranks
from sns.common.registry import Registry
from sns.config.schema import Config
from sns.config.schema import Config as RunConfig  # in a class that has a Config of its own
from sns.method import METHODS
from sns.optim import Optimizer
from sns.record.schema import AFTER, BEFORE, Column, Score
from sns.task.length import Length
from sns.task.running import Running

TASKS: Registry[type["Task"]] = Registry("task")
register = TASKS.register  # a decorator: makes a Task known as `task.name=<name>`
Row = dict[str, float]


@dataclass
class Options:
    """The options of a task that has none."""

    name: str = ""


@dataclass(frozen=True)
class Setup:
    """What the trainer has decided before it builds a task."""

    config: Config
    device: torch.device
    ranks: Ranks = ALONE
    memory_format: torch.memory_format = torch.contiguous_format


class Pieces(Protocol):
    """Makes the final measurements of a run piece by piece.

    Each piece is measured once, even if the run is stopped and resumed between two of them.
    """

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` returns, or did in an earlier session: numbers and containers of them."""

    def table(self, file: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes a CSV file to the run directory."""

    def path(self, file: str) -> Path:
        """Where a file of the run directory is, for what is neither number nor table."""


@dataclass
class Sizes:
    """Examples in one pass through the network, in training and in measuring; limited by memory."""

    train: int
    measure: int


class Task(ABC):
    """One run's data, networks, method and optimizers.

    A subclass sets the attributes below in `__init__(setup)` and leaves its networks in training
    mode.
    """

    Config: ClassVar[type] = Options
    columns: ClassVar[Sequence[Column]]  # of history.csv, in addition to those of every run
    score: ClassVar[Score]  # decides which row of the history is best

    length: Length
    optimizers: Sequence[Optimizer]
    running: Running
    sizes: Sizes
    generators: Sequence[torch.Generator] = ()  # those that `update` uses, the method's included, but torch's default
    notes: list[str]  # for the user, printed before the first update
    # What the following updates depend on, by name: generators, and whatever has a state_dict.
    parts: dict[str, Any]

    def __init__(self, setup: Setup) -> None:
        self.setup, self.notes, self.parts = setup, [], {}

    @classmethod
    def own_columns(cls, config: RunConfig) -> Sequence[Column]:
        """`columns`, for a task where they depend on the configuration."""
        return cls.columns

    @classmethod
    def own_score(cls, config: RunConfig) -> Score:
        """`score`, likewise."""
        return cls.score

    @property
    def factor(self) -> float | None:
        """lambda of the method's penalty, for its dose; None without a penalty."""
        return None

    @abstractmethod
    def draw(self) -> None:
        """The host's part of one update: writes the device's input to tensors at fixed addresses.

        Usually these are the indices of the next examples. Never waits for the device.
        """

    @abstractmethod
    def update(self) -> None:
        """The device's part of one update: gradients, the optimizer's step, the running sums.

        Shapes are static, addresses fixed, and the host never waits: a CUDA graph can capture it.
        """

    @abstractmethod
    def evaluate(self) -> Row:
        """The value of each of `columns` at the present weights. Resets the running sums only."""

    def measures(self) -> Row:
        """The values of the method's own columns of history.csv."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """The state of every part."""
        return {
            name: part.get_state() if isinstance(part, torch.Generator) else part.state_dict()
            for name, part in self.parts.items()
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` gave. UserError if it belongs to other data."""
        for name, part in self.parts.items():
            (part.set_state if isinstance(part, torch.Generator) else part.load_state_dict)(state[name])

    def final(self, pieces: Pieces) -> dict[str, Any]:
        """Measurements made once, at the end of training, for `Result.measured`."""
        return {}

    def summary(self, history: Sequence[Row]) -> dict[str, Any]:
        """Numbers computed from the history, for `Result.measured`."""
        return {}

    def facts(self) -> dict[str, Any]:
        """Facts about the data, for `Result.environment`."""
        return {}

    def compile(self, compiled: Callable[[nn.Module], Callable[..., Any]]) -> None:
        """Compiles the networks with `compiled`. UserError if the task does not support it."""
        raise UserError(f"task={self.setup.config.task.name} does not support train.mode=compile; use eager")


def columns_of(config: Config) -> list[str]:
    """The columns of history.csv: those of every run, of the task and of the method."""
    task, method = TASKS[config.task.name], METHODS[config.method.name]
    return [column.name for column in (*BEFORE, *task.own_columns(config), *method.columns(config.method), *AFTER)]
