"""A run while it trains: its task and its progress, saved and restored together."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sns import task as tasks
from sns.common import accelerator
from sns.common.errors import UserError, first_line
from sns.common.ranks import ALONE, Ranks
from sns.common.seed import stream_seed
from sns.config.schema import Config
from sns.task import Setup, Task
from sns.train import checkpoint
from sns.train.capture import Replay, RunAhead
from sns.train.device import choose_device, choose_memory_format, choose_mode, keep_freed_memory


@dataclass
class Session:
    """Everything that a run owns in this process. `history` has one row for each evaluation."""

    config: Config
    directory: Path
    device: torch.device
    task: Task
    ranks: Ranks
    mode: str  # eager | compile | graph
    memory_format: torch.memory_format
    ahead: RunAhead
    execute: Callable[[], None]  # `task.update`, plain or captured
    notes: list[str] = field(default_factory=list)  # for the user, printed before the first update
    step: int = 0
    rate: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"train": 0.0, "measure": 0.0, "setup": 0.0})
    sessions: int = 1

    @property
    def total(self) -> int:
        """The number of updates of the whole run."""
        return self.task.length.updates

    @property
    def columns(self) -> list[str]:
        """The columns of history.csv."""
        return tasks.columns_of(self.config)

    def evaluations_left(self) -> list[int]:
        """The updates after which an evaluation is still to be made."""
        return self.task.length.evaluations(self.config.measure.every)[len(self.history) :]

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Adds the seconds spent inside, including the device's work, to `seconds[what]`."""
        began = time.perf_counter()
        yield
        accelerator.of(self.device).synchronize()
        self.seconds[what] += time.perf_counter() - began

    def evaluate(self) -> dict[str, float]:
        """A row of the history for the present weights."""
        with self.timed("measure"):
            measured = self.task.evaluate() | self.task.measures()
        return {
            "epoch": self.task.length.epoch(self.step),
            "step": self.step,
            "lr": self.rate,
            **measured,
            "train_seconds": self.seconds["train"],
            "measure_seconds": self.seconds["measure"],
        }

    def pace(self) -> tuple[float, float]:
        """Training examples a second, and the expected seconds to the end of training."""
        spent = self.seconds["train"] + self.seconds["measure"]
        speed = self.step * self.config.batch.size / max(self.seconds["train"], 1e-9)
        return speed, spent / self.step * (self.total - self.step)

    def save(self) -> None:
        """Writes the checkpoint. Called on every rank, since each has its own dropout stream."""
        dropout = self.ranks.gather(accelerator.of(self.device).rng_state())
        if not self.ranks.first:
            return
        sizes = self.task.sizes
        state = {
            "task": self.task.state_dict(),
            "dropout": dropout,
            "progress": {"step": self.step, "rate": self.rate, "sessions": self.sessions},
            "sizes": {"train": sizes.train, "measure": sizes.measure},
            "history": self.history,
            "seconds": self.seconds,
        }
        checkpoint.save(self.directory, state)

    def restore(self) -> bool:
        """Continues from the checkpoint if there is one. UserError if it belongs to other data."""
        state = self.ranks.from_first(lambda: checkpoint.load(self.directory))
        if state is None:
            return False
        try:
            self._apply(state)
        except (KeyError, ValueError, RuntimeError, IndexError) as error:
            raise UserError(
                f"{self.directory} holds a checkpoint of another version ({first_line(error)}): "
                "use the version that wrote it, or move the run directory elsewhere to start over"
            ) from None
        return True

    def _apply(self, state: dict[str, Any]) -> None:
        self.task.load_state_dict(state["task"])
        self._take_dropout(state["dropout"])
        self.step, self.rate = state["progress"]["step"], state["progress"]["rate"]
        self.sessions = state["progress"]["sessions"] + 1
        self._take_sizes(state["sizes"])
        self.history, self.seconds = state["history"], state["seconds"]

    def _take_sizes(self, saved: dict[str, int]) -> None:
        """Uses the pass sizes that the run began with, since they decide the last digits.

        Sizes that do not fit the memory here stay smaller.
        """
        sizes = self.task.sizes
        if saved["train"] > sizes.train:
            self.notes.append(f"passes of {sizes.train} examples from here on, {saved['train']} before: other masks")
        sizes.train = min(sizes.train, saved["train"])
        sizes.measure = min(sizes.measure, saved["measure"])

    def _take_dropout(self, saved: list[Tensor]) -> None:
        if len(saved) == self.ranks.world:
            accelerator.of(self.device).set_rng_state(saved[self.ranks.rank])
        else:
            self.notes.append(f"{self.ranks.world} processes from here on, {len(saved)} before: other dropout masks")


def start(config: Config, directory: Path | None = None, ranks: Ranks = ALONE) -> Session:
    """Builds a run; resumes it if `directory`, by default the run's own, holds a checkpoint."""
    began = time.perf_counter()
    device = choose_device(config.train.device, ranks.local if ranks.world > 1 else None)
    mode, memory_format = choose_mode(config.train, device, ranks.world), choose_memory_format(config.train, device)
    keep_freed_memory()
    if config.train.threads is not None:
        torch.set_num_threads(config.train.threads)
    there = accelerator.of(device)
    there.select()
    there.reset_peak()  # the peak of this run, not of earlier runs in this process
    torch.manual_seed(stream_seed(config.seed, "init"))  # for weights that a task leaves to torch
    task = tasks.build(Setup(config, device, ranks, memory_format))
    torch.manual_seed(stream_seed(config.seed, "dropout") + ranks.rank)  # dropout draws from torch's default generator
    notes = list(task.notes)
    if mode == "graph" and not all(optimizer.capturable for optimizer in task.optimizers):
        mode = "eager"
        notes.append(f"optim={config.optim.name} cannot be captured as a CUDA graph: train.mode=eager")
    if config.train.precision == "bf16" and not there.has_bf16():
        notes.append(f"this {device.type} has no bf16 instructions: train.precision=fp32 is many times faster")
    folder = config.directory if directory is None else directory
    session = Session(config, folder, device, task, ranks, mode, memory_format, RunAhead(there), task.update, notes)
    session.restore()
    session.execute = _executor(session)
    session.seconds["setup"] += time.perf_counter() - began
    return session


def _executor(session: Session) -> Callable[[], None]:
    """`task.update` in the session's mode: plain, compiled, or captured as a CUDA graph.

    On one GPU the modes compile and graph are both captured.
    """
    task = session.task
    if session.mode == "compile":
        # The compiler's own random numbers would differ from the dropout masks of eager mode.
        task.compile(partial(torch.compile, dynamic=False, options={"fallback_random": True}))
    there = accelerator.of(session.device)
    if session.mode == "eager" or not there.captures or session.ranks.world > 1:
        return task.update

    def drop_gradients() -> None:
        for optimizer in task.optimizers:
            optimizer.zero_grad()

    return Replay(there, task.update, drop_gradients, list(task.generators))
