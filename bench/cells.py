"""Cells of the paper's Table 1 on random images, and the plainest programs that train them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor, nn
from torch.nn import functional as F

from bench.timing import Work
from sns.common.precision import autocast, training_precision
from sns.config.schema import Config
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
TWINS = {
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
    cuda: bool = False  # the GPU's version of the suite; a dry run of it on a CPU device
    tiny: bool = False  # the digits networks and a handful of images: for tests and dry runs
    budget: float = 60.0  # seconds for the row
    precision: str | None = None  # None: as configured

    def batches(self) -> list[str]:
        """The batch regimes to measure."""
        return ["small", "large"] if self.cuda else ["small"]


def random_images(folder: Path, side: int, classes: int, train: int, test: int) -> Path:
    """An .npz of random images and labels, written once."""
    path = folder / f"random_{side}_{classes}_{train}_{test}.npz"
    if not path.is_file():
        draw = np.random.default_rng(0)
        parts = {"train": train, "test": test}
        arrays = {f"x_{k}": draw.integers(0, 256, (n, side, side, 3), dtype=np.uint8) for k, n in parts.items()}
        np.savez(path, **arrays, **{f"y_{k}": np.arange(n) % classes for k, n in parts.items()})
    return path


def cell(plan: Plan, setting: str, *overrides: str, train: int = 0, test: int = 0) -> Session:
    """A session of `setting` in training mode on `train` random images.

    0 images: enough for its batch.
    """
    _, side, classes, *_ = NETWORKS[setting]
    large = "batch=large" in overrides
    train, test = train or (8_192 if large and not plan.tiny else 512), test or 256
    extra = [f"train.precision={plan.precision}"] if plan.precision is not None else []
    if plan.tiny:
        setting, side, classes, train, test = TWINS[setting], 8, 10, min(train, 64), min(test, 32)
        extra += ["data.subset=null", f"batch.size={32 if large else 8}", f"batch.ghost={16 if large else 'null'}"]
    images = random_images(plan.folder, side, classes, train, test)
    common = [f"setting={setting}", "data.name=npz", f"data.path={images}", f"results={plan.folder}/results"]
    quiet = [f"train.device={plan.device}", "train.progress=none"]
    session = start(configured(*common, *quiet, *extra, *overrides))
    session.task.model.train()
    return session


def configured(*overrides: str) -> Config:
    """The checked configuration of these command-line overrides."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return configure(compose("config", overrides=list(overrides)))


def update(session: Session) -> Work:
    """One update of ours, in the run's precision."""

    def work() -> None:
        with training_precision(session.config.train.precision):
            advance(session)

    return work


def mean_loss(session: Session) -> Callable[[Tensor, Tensor], Tensor]:
    """Mean cross entropy of the session's network at its precision."""

    def loss(x: Tensor, y: Tensor) -> Tensor:
        with autocast(session.config.train.precision, x.device):
            logits = session.task.model(x)
        return F.cross_entropy(logits.float(), y)

    return loss


def batch_of(session: Session) -> tuple[Tensor, Tensor]:
    """One batch of the session's size, copied, in the memory format of its network."""
    size = session.config.batch.size
    x, y = session.task.dataset.train.x[:size].clone(), session.task.dataset.train.y[:size].clone()
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
    loss, optimizer, config = mean_loss(session), sgd(session.task.model, session.config), session.config
    parts = list(zip(x.split(session.task.sizes.train), y.split(session.task.sizes.train), strict=True))

    def work() -> None:
        with training_precision(config.train.precision):
            optimizer.zero_grad(set_to_none=True)
            for part_x, part_y in parts:
                (loss(part_x, part_y) * (len(part_y) / len(y))).backward()
            extra()
            optimizer.step()

    return captured(work, session.task.model) if session.mode == "graph" else work


def captured(work: Work, model: nn.Module) -> Work:
    """`work` as a CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    model.zero_grad(set_to_none=True)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay
