"""How long a run will take on this device, from a few real updates on random images: the order of
magnitude, not a promise."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from sns import method, model, optim
from sns import task as tasks
from sns.common.precision import autocast, training_precision
from sns.common.seed import generator
from sns.config.schema import Config
from sns.measure.evaluation import evaluate
from sns.task import Setup
from sns.train.device import choose_device

# data set: training images, test images, channels, pixels a side, classes
SIZES = {
    "digits": (1_437, 360, 1, 8, 10),
    "cifar10": (50_000, 10_000, 3, 32, 10),
    "cifar100": (50_000, 10_000, 3, 32, 100),
    "stl10": (5_000, 8_000, 3, 96, 10),
}
PASS = {"cpu": 4, "cuda": 1_024}  # images of a timed pass, at most: enough to load the device, and quick


@dataclass(frozen=True)
class Cost:
    """Seconds to train on one image, to evaluate one, and of an update without its images."""

    image: float
    evaluation: float
    update: float


def run_seconds(config: Config) -> float:
    """Estimated seconds of training and evaluating this run; npz data are taken to have CIFAR-10's
    size."""
    if config.task.name != "classification":
        return _by_updates(config)
    train, test, *_ = SIZES.get(config.data.name, SIZES["cifar10"])
    train = min(train, config.data.subset or train)
    test = min(test, config.data.test_subset or test)
    device = choose_device(config.train.device)
    cost = _cost(config, device, min(config.batch.size, PASS[device.type]))
    epoch = cost.image * train + cost.update * train / config.batch.size
    return config.train.epochs * (epoch + cost.evaluation * (train + test) / config.measure.every)


def _by_updates(config: Config) -> float:
    """The updates of a run of any other task, timed on its own data; evaluations are left out."""
    device = choose_device(config.train.device)
    task = tasks.build(Setup(config, device))

    def update() -> None:
        task.draw()
        task.update()

    return task.length.updates * _seconds(update, device)


_timed: dict[str, Cost] = {}  # both regimes of a cell often share a pass size


def _cost(config: Config, device: torch.device, count: int) -> Cost:
    images, precision = f"{config.data.name} {config.data.resolution}", config.train.precision
    key = f"{images} {config.model} {config.method} {precision} {device} {count}"
    if key not in _timed:
        with training_precision(config.train.precision):
            _timed[key] = _time(config, device, count)
    return _timed[key]


def _time(config: Config, device: torch.device, count: int) -> Cost:
    """Times passes of `count` random images, then the penalty and the optimizer alone."""
    *_, channels, side, classes = SIZES.get(config.data.name, SIZES["cifar10"])
    side = config.data.resolution or side
    net = model.build(config.model, channels, side, classes, None, generator(0, "init")).to(device)
    problem = method.build(config.method, net, generator(0, "power_iteration"))
    optimizer = optim.build(config.optim, net.parameters())
    x = torch.randn(count, channels, side, side, device=device)
    y = torch.randint(classes, (count,), device=device)

    def risk(images: torch.Tensor, share: float) -> dict[str, torch.Tensor]:
        with autocast(config.train.precision, device):
            logits = net(images)
        (F.cross_entropy(logits.float(), y) * share).backward()
        return {}

    def update() -> None:
        problem.regularize()
        optimizer.step()
        optimizer.set_rate(config.optim.lr)

    image = _seconds(lambda: problem.backward(risk, x, 1.0), device) / count
    evaluation = _seconds(lambda: evaluate(net, x, y, count, None), device) / count
    return Cost(image, evaluation, _seconds(update, device))


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """The second of two calls; the first warms up."""
    seconds = 0.0
    for _ in range(2):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds = time.perf_counter() - began
    return seconds
