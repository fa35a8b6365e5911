"""Cells of the paper's Table 1 on random images, and the plainest programs that train them."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor, nn
from torch.nn import functional as F

from bench.timing import Work
from sns.common import accelerator
from sns.common.precision import autocast, fastest_kernels, training_precision
from sns.config.schema import Config
from sns.task.classification import Classification
from sns.train.capture import Replay
from sns.train.configure import configure
from sns.train.run import advance
from sns.train.session import Session, start

ROOT = Path(__file__).resolve().parents[1]
NETWORKS = {  # setting: name, pixels a side, classes, training and test images
    "vgg_cifar10": ("VGG, CIFAR-10", 32, 10, 50_000, 10_000),
    "nin_cifar100": ("NIN, CIFAR-100", 32, 100, 50_000, 10_000),
    "densenet40_cifar100": ("DenseNet-40, CIFAR-100", 32, 100, 50_000, 10_000),
    "densenet22_stl10": ("DenseNet-22, STL-10", 96, 10, 5_000, 8_000),
}
POCKET = {  # settings of the comparison of all methods, likewise; their images are reduced to 16 pixels
    "vgg_pocket": ("small VGG, CIFAR-10", 32, 10, 5_000, 5_000),
    "nin_pocket": ("small NIN, CIFAR-100", 32, 100, 5_000, 5_000),
}
GANS = {"sngan_pocket": ("small GAN, CIFAR-10", 32, 10, 50_000, 10_000)}
TWINS = {
    "sngan_pocket": "sngan_digits",
    "vgg_pocket": "digits_vgg",
    "nin_pocket": "digits_nin",
    "vgg_cifar10": "digits_vgg",
    "nin_cifar100": "digits_nin",
    "densenet40_cifar100": "digits_densenet",
    "densenet22_stl10": "digits_densenet",
}


@dataclass(frozen=True)
class Plan:
    """Where and how large to measure."""

    device: torch.device
    folder: Path  # for temporary data
    tiny: bool = False  # the digits networks and a handful of images: for tests
    budget: float = 60.0  # seconds for the row
    ends: float = math.inf  # no case begins after this time.monotonic()
    precision: str | None = None  # None: as configured; fp32 where a device has no bf16

    @property
    def gpu(self) -> bool:
        """Whether to measure the GPU's version of the suite."""
        return not accelerator.of(self.device).host

    @property
    def device_name(self) -> str:
        """The device as `train.device` names it."""
        index = self.device.index
        return accelerator.of(self.device).kind() + ("" if index is None else f":{index}")

    def batches(self) -> list[str]:
        """The batch regimes to measure."""
        return ["small", "large"] if self.gpu else ["small"]

    def share(self, part: float, whole: float) -> "Plan":
        """The plan of the next row, for `part` of the time that is left for `whole`."""
        now = time.monotonic()
        seconds = max(0.0, self.ends - now) * part / whole
        return replace(self, budget=min(seconds, 1.0) if self.tiny else seconds, ends=now + seconds)


def random_images(folder: Path, side: int, classes: int, train: int, test: int) -> Path:
    """An .npz of random images and labels, written once."""
    path = folder / f"random_{side}_{classes}_{train}_{test}.npz"
    if not path.is_file():
        draw = np.random.default_rng(0)
        parts = {"train": train, "test": test}
        arrays: dict[str, Any] = {
            f"x_{k}": draw.integers(0, 256, (n, side, side, 3), dtype=np.uint8) for k, n in parts.items()
        }
        arrays |= {f"y_{k}": np.arange(n) % classes for k, n in parts.items()}
        np.savez(path, **arrays)
    return path


def cell(plan: Plan, setting: str, *overrides: str, train: int = 0, test: int = 0) -> Session:
    """A session of `setting` on `train` random images, a classifier in training mode.

    0 images: enough for its batch.
    """
    _, side, classes, *_ = (NETWORKS | POCKET | GANS)[setting]
    large = "batch=large" in overrides
    train, test = train or (8_192 if large and not plan.tiny else 512), test or 256
    extra = ["data.subset=null", "data.test_subset=null"] if setting in POCKET else []
    extra += [f"train.precision={plan.precision}"] if plan.precision is not None else []
    if plan.tiny:
        setting, side, classes, train, test = TWINS[setting], 8, 10, min(train, 64), min(test, 32)
        extra += ["data.subset=null", f"batch.size={32 if large else 8}", f"batch.ghost={16 if large else 'null'}"]
    images = random_images(plan.folder, side, classes, train, test)
    common = [f"setting={setting}", "data.name=npz", f"data.path={images}", f"results={plan.folder}/results"]
    quiet = [f"train.device={plan.device_name}", "train.progress=none"]
    session = start(configured(*common, *quiet, *extra, *overrides))
    if isinstance(session.task, Classification):
        session.task.model.train()
    return session


def classified(session: Session) -> Classification:
    """The task of a session of `cell`."""
    assert isinstance(session.task, Classification)
    return session.task


def configured(*overrides: str) -> Config:
    """The checked configuration of these command-line overrides."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return configure(compose("config", overrides=list(overrides)))


def at_precision(session: Session, work: Work) -> Work:
    """`work` in the session's precision, as all of a run is."""

    def inside() -> None:
        with training_precision(session.config.train.precision):
            work()

    return inside


def update(session: Session) -> Work:
    """One update of ours."""
    return at_precision(session, partial(advance, session))


def mean_loss(session: Session) -> Callable[[Tensor, Tensor], Tensor]:
    """Mean cross entropy of the session's network at its precision."""

    def loss(x: Tensor, y: Tensor) -> Tensor:
        with autocast(session.config.train.precision, x.device):
            logits = classified(session).model(x)
        return F.cross_entropy(logits.float(), y)

    return loss


def batch_of(session: Session) -> tuple[Tensor, Tensor]:
    """One batch of the session's size, copied, in the memory format of its network."""
    size = session.config.batch.size
    x, y = classified(session).dataset.train.x[:size].clone(), classified(session).dataset.train.y[:size].clone()
    return x.contiguous(memory_format=session.memory_format), y


def sgd(model: nn.Module, config: Config, fused: bool = True) -> torch.optim.SGD:
    """torch's optimizer with the run's rate and momentum."""
    rate, momentum = config.optim.lr, config.optim.momentum
    return torch.optim.SGD(model.parameters(), lr=rate, momentum=momentum, nesterov=True, fused=fused)


def floor(session: Session, extra: Work = lambda: None) -> Work:
    """Forward, backward and SGD on one batch on the device: the least that an update must do.

    In the session's mode, precision and pass size. `extra` runs before the optimizer.
    """
    x, y = batch_of(session)
    loss, optimizer = mean_loss(session), sgd(classified(session).model, session.config)
    parts = list(zip(x.split(session.task.sizes.train), y.split(session.task.sizes.train), strict=True))

    @fastest_kernels()
    def work() -> None:
        optimizer.zero_grad(set_to_none=True)
        for part_x, part_y in parts:
            (loss(part_x, part_y) * (len(part_y) / len(y))).backward()
        extra()
        optimizer.step()

    if session.mode == "graph":
        drop_gradients = partial(optimizer.zero_grad, set_to_none=True)
        return at_precision(session, Replay(accelerator.of(x.device), work, drop_gradients, []))
    return at_precision(session, work)
