"""One run while it lives: its parts, built from the configuration, and their state, saved and
restored as one."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sns import method, model
from sns.common.errors import UserError, first_line
from sns.common.ranks import ALONE, Ranks
from sns.common.seed import generator, stream_seed
from sns.config.schema import Config, DataConfig
from sns.data.augment import crop_and_flip
from sns.data.dataset import Dataset, load
from sns.data.order import BatchOrder
from sns.method import Method
from sns.optim.nesterov import NesterovSGD
from sns.task import passes
from sns.task.exchange import Exchange
from sns.task.running import Running
from sns.train import checkpoint
from sns.train.capture import Replay
from sns.train.device import choose_device, choose_memory_format, choose_mode, keep_freed_memory
from sns.train.schedule import learning_rate, total_steps


@dataclass
class Session:
    """Everything that a run owns. `history` holds one row an evaluation, names as in
    `record.schema.HISTORY`."""

    config: Config
    directory: Path
    device: torch.device
    dataset: Dataset
    model: nn.Module
    method: Method
    optimizer: NesterovSGD
    order: BatchOrder
    augmentation: torch.Generator
    running: Running
    total: int
    mode: str  # eager | compile | graph
    memory_format: torch.memory_format
    pass_size: int  # images a pass
    measure_size: int  # images an evaluation pass
    index: Tensor  # (B,) int64, the batch of the next update, at a fixed place
    ranks: Ranks
    exchange: Exchange
    execute: Callable[[], None] = lambda: None  # `update`, as it is or captured
    notes: list[str] = field(default_factory=list)  # what the user should be told before the first update
    step: int = 0
    rate: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"train": 0.0, "measure": 0.0, "setup": 0.0})
    sessions: int = 1

    def advance(self) -> None:
        """One update: the host chooses batch and learning rate, the device does the rest without
        being waited for."""
        self.order.fill(self.index)
        self.rate = learning_rate(self.step, self.total, self.config.optim)
        self.optimizer.set_rate(self.rate)
        self.execute()
        self.running.count += len(self.index)
        self.step += 1

    def update(self) -> None:
        """The device's part: a full batch in one or several passes, the penalty, Nesterov SGD, the
        running sums.

        Static shapes, fixed addresses and no wait, so that it can be captured as a CUDA graph.
        """
        images, config = self.dataset.train, self.config.data
        x, y = images.x.index_select(0, self.index), images.y.index_select(0, self.index)
        x = crop_and_flip(x, config.crop_padding, config.flip, self.augmentation)
        mine = slice(*self.ranks.bounds(len(y)))  # of the whole batch, so that every rank draws the same crops
        x, own_y = x[mine].contiguous(memory_format=self.memory_format), y[mine]
        self.optimizer.zero_grad()
        before = self.exchange.begin()
        loss, correct = torch.zeros_like(self.running.loss), torch.zeros_like(self.running.correct)
        for part_x, part_y in zip(x.split(self.pass_size), own_y.split(self.pass_size), strict=True):
            shown = self.method.backward(part_x, part_y, len(part_y) / len(y))
            loss += shown.loss
            correct += shown.correct
        loss, correct = self.exchange.end(before, loss, correct)
        penalty = self.method.regularize()
        self.optimizer.step()
        self.running.note(loss, correct, penalty)

    def save(self) -> None:
        """Writes the checkpoint; on every rank, for each has its own stream of dropout masks."""
        dropout = self.ranks.gather(_dropout_state(self.device))
        if not self.ranks.first:
            return
        state = {
            "fingerprint": self.dataset.fingerprint,
            "model": self.model.state_dict(),
            "method": self.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "order": self.order.state_dict(),
            "augmentation": self.augmentation.get_state(),
            "dropout": dropout,
            "running": self.running.state_dict(),
            "progress": {"step": self.step, "rate": self.rate, "sessions": self.sessions},
            "sizes": {"pass": self.pass_size, "measure": self.measure_size},
            "history": self.history,
            "seconds": self.seconds,
        }
        checkpoint.save(self.directory, state)

    def restore(self) -> bool:
        """Continues from the checkpoint if there is one; UserError if its data set is not the
        present one."""
        state = self.ranks.from_first(lambda: checkpoint.load(self.directory))
        if state is None:
            return False
        try:
            self._apply(state)
        except (KeyError, ValueError, RuntimeError, IndexError) as error:
            raise UserError(
                f"{self.directory} holds a checkpoint of another version ({first_line(error)}): "
                "use the version that wrote it, or delete the run directory to start over"
            ) from None
        return True

    def _apply(self, state: dict[str, Any]) -> None:
        if state["fingerprint"] != self.dataset.fingerprint:
            raise UserError(
                f"{self.directory} was begun on other images than {self.dataset.name} holds now: "
                "restore the data set, or delete the run directory to start over"
            )
        self.model.load_state_dict(state["model"])
        self.method.load_state_dict(state["method"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.order.load_state_dict(state["order"])
        self.augmentation.set_state(state["augmentation"])
        self._take_dropout(state["dropout"])
        self.running.load_state_dict(state["running"])
        self.step, self.rate = state["progress"]["step"], state["progress"]["rate"]
        self.sessions = state["progress"]["sessions"] + 1
        self._take_sizes(state["sizes"])
        self.history, self.seconds = state["history"], state["seconds"]

    def _take_sizes(self, saved: dict[str, int]) -> None:
        """The pass sizes that the run began with, for they decide the last digits; or what fits
        here."""
        if saved["pass"] > self.pass_size:
            self.notes.append(f"passes of {self.pass_size} images from here on, {saved['pass']} before: other masks")
        self.pass_size = min(self.pass_size, saved["pass"])
        self.measure_size = min(self.measure_size, saved["measure"])

    def _take_dropout(self, saved: list[Tensor]) -> None:
        if len(saved) == self.ranks.world:
            _set_dropout_state(self.device, saved[self.ranks.rank])
        else:
            self.notes.append(f"{self.ranks.world} processes from here on, {len(saved)} before: other dropout masks")


def _dropout_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_dropout_state(device: torch.device, state: Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)


_loaded: dict[str, Dataset] = {}  # the last data set used in this process: the runs of a sweep share it


def _dataset(config: DataConfig, device: torch.device) -> Dataset:
    key = f"{config} on {device}"
    if key not in _loaded:
        _loaded.clear()
        _loaded[key] = load(config, device)
    return _loaded[key]


def start(config: Config, directory: Path | None = None, ranks: Ranks = ALONE) -> Session:
    """Builds a run and, where its directory (`config.directory` unless given) holds a checkpoint,
    continues it."""
    began = time.perf_counter()
    device = choose_device(config.train.device, ranks.local if ranks.world > 1 else None)
    part = replace(config.batch, size=ranks.part(config.batch.size, config.batch.ghost))
    mode, memory_format = choose_mode(config.train, device, ranks.world), choose_memory_format(config.train, device)
    keep_freed_memory()
    if config.train.threads is not None:
        torch.set_num_threads(config.train.threads)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.cuda.reset_peak_memory_stats(device)  # of this run, not of the one before it in the sweep
        torch.backends.cudnn.benchmark = True  # shapes are static: the fastest kernels are worth choosing
    images = _dataset(config.data, device)
    init = generator(config.seed, "init")
    shape = images.channels, images.image_size, images.classes
    net = model.build(config.model, *shape, config.batch.ghost, init).to(device).to(memory_format=memory_format)
    per_image = passes.saved_bytes(net, *shape, config.train.precision)
    pass_size, why_pass = passes.choose(part, per_image, device)
    measure_size, why_measure = passes.choose_measuring(config.measure.batch_size, per_image, device)
    iteration = generator(config.seed, "power_iteration")
    torch.manual_seed(stream_seed(config.seed, "dropout") + ranks.rank)  # dropout draws from torch's own stream
    session = Session(
        config=config,
        directory=config.directory if directory is None else directory,
        device=device,
        dataset=images,
        model=net,
        method=method.build(config.method, net, iteration, config.train.precision),
        optimizer=NesterovSGD(net.parameters(), config.optim),
        order=BatchOrder(len(images.train), config.batch.size, generator(config.seed, "order"), device),
        augmentation=generator(config.seed, "augmentation", device),
        running=Running(device),
        total=total_steps(config.train.epochs, len(images.train), config.batch.size),
        mode=mode,
        memory_format=memory_format,
        pass_size=pass_size,
        measure_size=measure_size,
        index=torch.zeros(config.batch.size, dtype=torch.int64, device=device),
        ranks=ranks,
        exchange=Exchange(ranks, net, part.size // (config.batch.ghost or part.size)),
        notes=[reason for reason in (why_pass, why_measure) if reason is not None],
    )
    session.restore()
    session.execute = _executor(session)
    session.seconds["setup"] += time.perf_counter() - began
    return session


def _executor(session: Session) -> Callable[[], None]:
    """`session.update` in its mode. On a GPU both compiled and plain steps are captured; eager runs
    op by op."""
    if session.mode == "compile":
        # The masks of dropout are to come from the same stream as in eager mode, hence no random
        # numbers of its own.
        compiled = torch.compile(session.model, dynamic=False, options={"fallback_random": True})
        session.method.network = compiled
    if session.mode == "eager" or session.device.type != "cuda" or session.ranks.world > 1:
        return session.update
    return Replay(session.update, session.optimizer.zero_grad, [session.augmentation])
