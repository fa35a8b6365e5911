"""How long a run will take on this device, from a few real updates on random images: the right order, not a promise."""

import time

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
LARGEST_PASS = {"cpu": 64, "cuda": 1_024}  # images of the timed pass: enough to load the device, soon over


def run_seconds(config: Config) -> float:
    """Estimated seconds of training and evaluating this run; npz data are taken to be as large as CIFAR-10."""
    train, test, channels, side, classes = SIZES.get(config.data.name, SIZES["cifar10"])
    train = min(train, config.data.subset or train)
    test = min(test, config.data.test_subset or test)
    device = choose_device(config.train.device)
    count = min(config.batch.size, LARGEST_PASS[device.type])
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

    def measure() -> None:
        evaluate(net, x, y, count, None)

    with training_precision(config.train.precision):
        each = [_seconds(work, device) / count for work in (update, measure)]
    measured = (train + test) / config.measure.every
    return config.train.epochs * (each[0] * train + each[1] * measured)


def _seconds(work: object, device: torch.device) -> float:
    """The faster of two calls after one that warms up."""
    times = []
    for _ in range(3):
        began = time.perf_counter()
        work()  # type: ignore[operator]
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - began)
    return min(times[1:])
