"""One run while it lives: its parts, built from the configuration, and their state, saved and restored as one."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sns import method, model
from sns.config import Config, DataConfig
from sns.data.dataset import Dataset, load
from sns.data.order import BatchOrder
from sns.errors import UserError, first_line
from sns.method import Method
from sns.seed import generator, stream_seed
from sns.train import checkpoint, optim
from sns.train.schedule import total_steps

NEVER = torch.iinfo(torch.int64).max


class Running:
    """Sums over the training images seen since the last evaluation, kept on the device."""

    def __init__(self, device: torch.device) -> None:
        self.loss = torch.zeros((), dtype=torch.float64, device=device)
        self.correct = torch.zeros((), dtype=torch.int64, device=device)
        self.count = 0
        self.penalty = torch.zeros((), device=device)
        self.bad_step = torch.full((), NEVER, device=device)  # first update whose loss was not finite

    def state_dict(self) -> dict[str, Any]:
        """Tensors and counts."""
        return {name: value.clone() if isinstance(value, Tensor) else value for name, value in vars(self).items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` gave."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                value.copy_(state[name])
        self.count = state["count"]

    def reset(self) -> None:
        """Starts the next stretch; the first bad step is never forgotten."""
        self.loss.zero_()
        self.correct.zero_()
        self.count = 0


@dataclass
class Session:
    """Everything that a run owns. `history` holds one row an evaluation, names as in `record.schema.HISTORY`."""

    config: Config
    directory: Path
    device: torch.device
    dataset: Dataset
    model: nn.Module
    method: Method
    optimizer: torch.optim.Optimizer
    order: BatchOrder
    augmentation: torch.Generator
    running: Running
    total: int
    step: int = 0
    rate: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"train": 0.0, "measure": 0.0, "setup": 0.0})
    sessions: int = 1

    def save(self) -> None:
        """Writes the checkpoint."""
        state = {
            "fingerprint": self.dataset.fingerprint,
            "model": self.model.state_dict(),
            "method": self.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "order": self.order.state_dict(),
            "augmentation": self.augmentation.get_state(),
            "dropout": _dropout_state(self.device),
            "running": self.running.state_dict(),
            "progress": {"step": self.step, "rate": self.rate, "sessions": self.sessions},
            "history": self.history,
            "seconds": self.seconds,
        }
        checkpoint.save(self.directory, state)

    def restore(self) -> bool:
        """Continues from the checkpoint if there is one; UserError if its data set is not the present one."""
        state = checkpoint.load(self.directory)
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
        _set_dropout_state(self.device, state["dropout"])
        self.running.load_state_dict(state["running"])
        self.step, self.rate = state["progress"]["step"], state["progress"]["rate"]
        self.sessions = state["progress"]["sessions"] + 1
        self.history, self.seconds = state["history"], state["seconds"]


def _dropout_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_dropout_state(device: torch.device, state: Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)


def choose_device(name: str) -> torch.device:
    """auto is CUDA where there is one; UserError where a device is asked for that is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"train.device={name} is unknown; choose auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"train.device={name} is not supported; choose auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"train.device={name} asks for a GPU, but {torch.cuda.device_count()} are visible; use train.device=cpu"
        )
    return device


_loaded: dict[str, Dataset] = {}  # the last data set used in this process: the runs of a sweep share it


def _dataset(config: DataConfig, device: torch.device) -> Dataset:
    key = f"{config} on {device}"
    if key not in _loaded:
        _loaded.clear()
        _loaded[key] = load(config, device)
    return _loaded[key]


def start(config: Config, directory: Path | None = None) -> Session:
    """Builds a run and, where its directory (`config.directory` unless given) holds a checkpoint, continues it."""
    began = time.perf_counter()
    device = choose_device(config.train.device)
    if config.train.threads is not None:
        torch.set_num_threads(config.train.threads)
    images = _dataset(config.data, device)
    init = generator(config.seed, "init")
    net = model.build(config.model, images.channels, images.image_size, images.classes, config.batch.ghost, init).to(
        device
    )
    iteration = generator(config.seed, "power_iteration")
    torch.manual_seed(stream_seed(config.seed, "dropout"))  # dropout draws from torch's own stream
    session = Session(
        config=config,
        directory=config.directory if directory is None else directory,
        device=device,
        dataset=images,
        model=net,
        method=method.build(config.method, net, iteration, config.train.precision),
        optimizer=optim.build(net, config.optim),
        order=BatchOrder(len(images.train), config.batch.size, generator(config.seed, "order"), device),
        augmentation=generator(config.seed, "augmentation", device),
        running=Running(device),
        total=total_steps(config.train.epochs, len(images.train), config.batch.size),
    )
    session.restore()
    session.seconds["setup"] += time.perf_counter() - began
    return session
