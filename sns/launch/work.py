"""What a run has to compute: operations, bytes and calls, counted in a forward pass of two images.

A mode of torch.overrides sees every call. One of torch.utils._python_dispatch would first import
sympy and more, for ten seconds.
"""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from sns import method
from sns.common import accelerator
from sns.common.seed import generator
from sns.config.schema import Config
from sns.measure.spectrum import weight_matrices
from sns.method.base import METHODS, Method, Sums, Term, no_term
from sns.model import MODELS
from sns.task.length import Length

# data set: training images, test images, channels, pixels a side, classes
SIZES = {
    "digits": (1_437, 360, 1, 8, 10),
    "cifar10": (50_000, 10_000, 3, 32, 10),
    "cifar100": (50_000, 10_000, 3, 32, 100),
    "stl10": (5_000, 8_000, 3, 96, 10),
}
PROBE = 2  # images of the counted pass
BACKWARD = 2.0  # times the operations and bytes of a forward pass
KERNELS = 2.5  # kernels of forward and backward for a call of the forward pass
PRODUCT = 9.0  # a Hessian-vector product in forward passes: forward, backward, and twice that for the second derivative
PRODUCTS = 8.0  # Hessian-vector products until it has converged: 4 to 9 on three small networks
STEP = 20  # bytes a parameter: the optimizer reads weight, gradient and momentum, and writes two of them
SVD = 8.0  # operations of all singular values of an (m, n) matrix, m <= n, over m * m * n
PASS = {True: 250, False: 1_000}  # images an evaluation pass on the host and on a GPU, about


@dataclass(frozen=True)
class Work:
    """Floating-point operations on the device, bytes moved, calls of operators, and operations in
    float64, which measurements use."""

    flops: float = 0.0
    bytes: float = 0.0
    calls: float = 0.0
    double: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(
            self.flops + other.flops, self.bytes + other.bytes, self.calls + other.calls, self.double + other.double
        )

    def __mul__(self, times: float) -> "Work":
        return Work(self.flops * times, self.bytes * times, self.calls * times, self.double * times)


@dataclass(frozen=True)
class Network:
    """A network: the work of an image and of a pass in the forward direction, and its weights."""

    image: Work
    calls: float
    parameters: int
    classes: int
    matrices: tuple[tuple[int, int], ...]

    def forward(self, images: float, per_pass: float) -> Work:
        """Forward passes over `images`, `per_pass` at a time."""
        passes = math.ceil(images / per_pass)
        return self.image * images + Work(0, 4 * self.parameters, self.calls) * passes

    def training(self, images: float, per_pass: float) -> Work:
        """Forward and backward passes."""
        work = self.forward(images, per_pass) * (1 + BACKWARD)
        return Work(work.flops, work.bytes, work.calls * KERNELS / (1 + BACKWARD))

    def spectra(self) -> Work:
        """Every singular value of every weight matrix."""
        return Work(double=sum(SVD * min(s) ** 2 * max(s) for s in self.matrices))

    def norms(self) -> Work:
        """The largest singular value of every matrix, from its Gram matrix."""
        return Work(double=sum(2 * min(s) ** 2 * max(s) + 4 * min(s) ** 3 for s in self.matrices))


class Counter(TorchFunctionMode):
    """Counts the calls of torch made inside, their operations and bytes. Views cost nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.work = Work()

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        results, inputs = list(_tensors(out)), list(_tensors((args, kwargs)))
        if results and not _is_view(results[0], inputs):
            size = sum(t.numel() * t.element_size() for t in (*inputs, *results))
            self.work += Work(_operations(getattr(function, "__name__", ""), inputs, results[0]), size, 1)
        return out


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for entry in value:
            yield from _tensors(entry)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _is_view(result: Tensor, inputs: list[Tensor]) -> bool:
    storage = result.untyped_storage().data_ptr()
    shares = any(storage == t.untyped_storage().data_ptr() for t in inputs)
    return shares and all(result.shape != t.shape for t in inputs)


def _operations(name: str, inputs: list[Tensor], result: Tensor) -> float:
    """2 operations a multiplication and addition, of convolutions and matrix products."""
    if name.startswith("conv"):
        return 2.0 * result.numel() * inputs[1][0].numel()
    if name in ("linear", "matmul", "__matmul__", "mm", "bmm", "mv", "addr_"):
        return 2.0 * result.numel() * (1 if name == "addr_" else inputs[0].shape[-1])
    return 0.0


_counted: dict[str, Any] = {}  # a network is counted once, also for many runs


class UncountableError(Exception):
    """A model or a method cannot be called as those of this package can."""


def _once(key: str, make: Callable[[], Any]) -> Any:
    if key not in _counted:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # two images: more threads would wait for each other on a busy machine
        try:
            _counted[key] = make()
        except Exception as error:  # of the user's code
            raise UncountableError(str(error)) from error
        finally:
            torch.set_num_threads(threads)
    return _counted[key]


def images(config: Config) -> tuple[int, int, int, int, int]:
    """Training and test images, channels, pixels a side and classes of a run; npz data are taken to
    have CIFAR-10's size."""
    train, test, channels, side, classes = SIZES.get(config.data.name, SIZES["cifar10"])
    if config.data.holdout is not None:
        train, test = train - config.data.holdout, config.data.holdout
    train, test = min(train, config.data.subset or train), min(test, config.data.test_subset or test)
    return train, test, channels, config.data.resolution or side, classes


def build(config: Config) -> nn.Module:
    """A new network of the run's shape, on the CPU."""
    return copy.deepcopy(_drawn(config))


def _drawn(config: Config) -> nn.Module:
    """The network of `build`, drawn once and shared by all that only count with it."""
    *_, channels, side, classes = images(config)

    def make() -> nn.Module:
        with accelerator.forked_rng([]):
            net: nn.Module = MODELS[config.model.name](config.model, channels, side, classes, None)
        return net

    net: nn.Module = _once(f"{config.model} {(channels, side, classes)} built", make)
    return net


def network(config: Config) -> Network:
    """The network of a run, from one forward pass. UncountableError if it fails."""
    channels, side, classes = shape = images(config)[2:]

    def count() -> Network:
        net = _drawn(config)
        x, y = torch.zeros(PROBE, channels, side, side), torch.zeros(PROBE, dtype=torch.int64)
        with accelerator.forked_rng([]), torch.no_grad(), Counter() as counter:
            F.cross_entropy(net(x), y)
        sizes = tuple((len(m), m.shape[1]) for m in weight_matrices(net).values())
        parameters = sum(p.numel() for p in net.parameters())
        work = counter.work
        activations = Work(work.flops, max(0.0, work.bytes - 4 * parameters)) * (1 / PROBE)
        return Network(activations, work.calls, parameters, classes, sizes)

    found: Network = _once(f"{config.model} {shape}", count)
    return found


@dataclass(frozen=True)
class Problem:
    """A method on a network: its passes over the batch, and the work of an update beside them.

    A term that a method adds to the loss counts as `Method.term_passes`.
    """

    passes: float
    rest: Work


def problem(config: Config) -> Problem:
    """The method of a run: how often it asks for the loss of a batch, and what else it does.

    UncountableError if it fails.
    """

    def count() -> Problem:
        own = METHODS[config.method.name].prepare is not Method.prepare  # which may change the network's structure
        net = build(config) if own else _drawn(config)
        chosen = method.build(config.method, net, generator(0, "power_iteration"))
        chosen.prepare()
        for parameter in net.parameters():
            parameter.grad = torch.zeros_like(parameter)
        passes = 0.0

        def risk(x: Tensor, share: float, term: Term = no_term) -> Sums:
            nonlocal passes
            passes += 1
            if term is not no_term:
                passes += chosen.term_passes
                with accelerator.forked_rng([]):  # of the dropout masks
                    term(net(x))
            x.grad = torch.zeros_like(x)
            return {"loss": torch.zeros(()), "correct": torch.zeros(())}

        *_, channels, side, _ = images(config)
        chosen.backward(risk, torch.zeros(PROBE, channels, side, side), 1.0)
        with Counter() as counter:
            chosen.regularize()
            chosen.project()
        return Problem(max(1.0, passes), counter.work)

    found: Problem = _once(f"{config.model} {images(config)[2:]} {config.method}", count)
    return found


def update(config: Config) -> Work:
    """One update of a run."""
    return plain_update(config, config.batch.size, problem(config).passes) + problem(config).rest


def plain_update(config: Config, batch: int, passes: float = 1.0) -> Work:
    """An update of `batch` images by the optimizer alone, with so many passes over them."""
    net, per_pass = network(config), min(config.batch.micro or batch, batch)
    return net.training(batch, per_pass) * passes + Work(0, STEP * net.parameters, 1)


def training(config: Config) -> Work:
    """All updates of a run."""
    return update(config) * length(config).updates


def measuring(config: Config, host: bool) -> Work:
    """All that a run measures. `host`: whether it trains on the CPU."""
    per_pass = config.measure.batch_size or PASS[host]
    evaluations = len(length(config).evaluations(config.measure.every))
    return _evaluation(config, per_pass) * evaluations + _final(config, per_pass)


def _probes(config: Config) -> int:
    """Images of both splits whose input gradients are measured."""
    train, test, *_ = images(config)
    return min(config.measure.gradient_samples, train) + min(config.measure.test_gradient_samples or test, test)


def forwards(config: Config, host: bool) -> Work:
    """The part of `measuring` that `measure.precision` is for: passes without a gradient."""
    per_pass = config.measure.batch_size or PASS[host]
    final = config.measure.recalibration_samples is not None
    return _forwards(config, per_pass) * (len(length(config).evaluations(config.measure.every)) + final)


def _forwards(config: Config, per_pass: float) -> Work:
    train, test, *_ = images(config)
    anew = 0 if config.measure.recalibration_samples is None else test
    return network(config).forward(train + test - _probes(config), per_pass) + network(config).forward(anew, per_pass)


def _evaluation(config: Config, per_pass: float) -> Work:
    net, anew = network(config), config.measure.recalibration_samples
    work = net.forward(_probes(config), per_pass) * 2 + _forwards(config, per_pass) + net.norms()
    return work if anew is None else work + net.forward(min(anew, images(config)[0]), per_pass)


def _final(config: Config, per_pass: float) -> Work:
    train, test, *_ = images(config)
    net, measure = network(config), config.measure
    work = net.forward(_probes(config), per_pass) * 2
    if measure.recalibration_samples is not None:
        work += _evaluation(config, per_pass)
    if measure.spectra:
        jacobians = net.forward(min(measure.jacobian_samples, test), 64) * (1 + net.classes)
        work += net.spectra() + jacobians
    if measure.hessian:
        samples = sum(min(measure.hessian_samples, n) for n in (train, test))
        products = min(PRODUCTS, measure.hessian_iterations)
        work += net.forward(samples, max(1.0, per_pass / 4)) * (products * PRODUCT)
    return work


def length(config: Config) -> Length:
    """The updates and evaluations of a run."""
    return Length(config.train.epochs, images(config)[0], config.batch.size)
