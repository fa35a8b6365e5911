"""How long a run will take on this device, from a few real updates on random images: the right order, not a promise."""

import time
from collections.abc import Callable

import torch

from sns import method, model
from sns.config import Config
from sns.measure.evaluation import evaluate
from sns.precision import training_precision
from sns.seed import generator
from sns.train import optim
from sns.train.session import choose_device

# data set: training images, test images, channels, pixels a side, classes
SIZES = {
    "digits": (1_437, 360, 1, 8, 10),
    "cifar10": (50_000, 10_000, 3, 32, 10),
    "cifar100": (50_000, 10_000, 3, 32, 100),
    "stl10": (5_000, 8_000, 3, 96, 10),
}
PASS = {"cpu": 16, "cuda": 1_024}  # images of a timed pass, at most: enough to load the device, soon over


def run_seconds(config: Config) -> float:
    """Estimated seconds of training and evaluating this run; npz data are taken to be as large as CIFAR-10."""
    train, test, *_ = SIZES.get(config.data.name, SIZES["cifar10"])
    train = min(train, config.data.subset or train)
    test = min(test, config.data.test_subset or test)
    device = choose_device(config.train.device)
    update, measure = _seconds_per_image(config, device, min(config.batch.size, PASS[device.type]))
    return config.train.epochs * (update * train + measure * (train + test) / config.measure.every)


_timed: dict[str, tuple[float, float]] = {}  # both regimes of a cell often share a pass size


def _seconds_per_image(config: Config, device: torch.device, count: int) -> tuple[float, float]:
    """Of an update and of an evaluation, in passes of `count` images."""
    key = f"{config.data.name} {config.model} {config.method} {config.train.precision} {device} {count}"
    if key not in _timed:
        with training_precision(config.train.precision):
            update, measure = _work(config, device, count)
            _timed[key] = _seconds(update, device) / count, _seconds(measure, device) / count
    return _timed[key]


def _work(config: Config, device: torch.device, count: int) -> tuple[Callable[[], object], Callable[[], object]]:
    """An update and an evaluation on `count` random images."""
    *_, channels, side, classes = SIZES.get(config.data.name, SIZES["cifar10"])
    net = model.build(config.model, channels, side, classes, None, generator(0, "init")).to(device)
    problem = method.build(config.method, net, generator(0, "power_iteration"), config.train.precision)
    optimizer = optim.build(net, config.optim)
    x = torch.randn(count, channels, side, side, device=device)
    y = torch.randint(classes, (count,), device=device)

    def update() -> None:
        optimizer.zero_grad(set_to_none=False)
        problem.backward(x, y, 1.0)
        problem.regularize()
        optimizer.step()

    return update, lambda: evaluate(net, x, y, count, None)


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
