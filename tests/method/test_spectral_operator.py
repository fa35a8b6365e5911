"""The penalty on layers as linear maps, against autograd through their dense matrices."""

import copy
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
import torch
from conftest import compose_tree
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from sns import method as methods
from sns import model as models
from sns.common.errors import ConfigError
from sns.config.schema import Config
from sns.linalg.conv_operator import Convolution, operator_norm
from sns.linalg.weights import weight_parameters
from sns.method import Method
from sns.method.base import Risk, Sums
from sns.method.spectral import SpectralOptions
from sns.method.spectral_operator import SpectralOperatorOptions
from sns.model.nin import NINConfig
from sns.model.sizes import input_sizes
from sns.record import store
from sns.train import checkpoint
from sns.train.configure import configure
from sns.train.run import advance, run
from sns.train.session import start
from sns.train.stop import Interrupted

Make = Callable[..., Config]
LAMBDA = 0.3


class Net(nn.Module):
    """Padding with stride, a pool in ceil mode, groups with dilation, 1x1, linear; 9x9 images."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.strided = nn.Conv2d(4, 6, (3, 5), stride=(2, 1), padding=(1, 2), bias=False)
        self.grouped = nn.Conv2d(6, 4, 3, padding=2, dilation=2, groups=2)
        self.point = nn.Conv2d(4, 5, 1)
        self.head = nn.Linear(15, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.first(x)), 3, 2, ceil_mode=True)  # 9 -> 4
        x = F.relu(self.grouped(F.relu(self.strided(x))))  # 2x4
        x = F.max_pool2d(F.relu(self.point(x)), (2, 2), (2, 1))  # 1x3
        logits: Tensor = self.head(x.flatten(1))
        return logits


SIZES = {"first": (9, 9), "strided": (4, 4), "grouped": (2, 4), "point": (2, 4)}


def network() -> Net:
    torch.manual_seed(0)
    return Net().double()


def batch(n: int = 4) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    return torch.randn(n, 2, 9, 9, generator=g, dtype=torch.float64), torch.arange(n) % 3


def risk(model: nn.Module, y: Tensor) -> Risk:
    """The risk of a classifier with labels y, as the task defines it; in float64."""

    def of(x: Tensor, share: float) -> Sums:
        logits = model(x)
        (F.cross_entropy(logits, y) * share).backward()
        return {}

    return of


def make(options: Any, model: nn.Module, seed: int = 2) -> Method:
    return methods.build(options, model, torch.Generator().manual_seed(seed))


def backward(built: Method, x: Tensor, y: Tensor) -> None:
    """The method's data term with the mean cross entropy as risk; in float64."""
    built.backward(risk(built.model, y), x, 1.0)


def added(options: Any, model: nn.Module, x: Tensor, y: Tensor) -> tuple[list[Tensor], Tensor]:
    """The penalty's gradients and its value."""
    built = make(options, model)
    backward(built, x, y)
    before = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    penalty = built.regularize()
    assert penalty is not None
    after = [p.grad for p in model.parameters() if p.grad is not None]
    return [b - a for a, b in zip(before, after, strict=True)], penalty


def dense_norm(layer: nn.Module, size: tuple[int, int]) -> Tensor:
    """The norm of the matrix of a layer on images of `size`, column by column, differentiable."""
    if isinstance(layer, nn.Linear):
        return torch.linalg.matrix_norm(layer.weight, 2)
    assert isinstance(layer, nn.Conv2d)
    n = layer.in_channels * size[0] * size[1]
    basis = torch.eye(n, dtype=torch.float64).view(n, layer.in_channels, *size)
    columns = F.conv2d(
        basis, layer.weight, None, layer.stride, layer.padding, dilation=layer.dilation, groups=layer.groups
    )
    return torch.linalg.matrix_norm(columns.flatten(1), 2)


def test_sizes_are_those_that_the_layers_meet_and_asking_changes_nothing() -> None:
    model = models.build(NINConfig(dropout=0.5), 3, 32, 10, None, torch.Generator().manual_seed(0)).train()
    model(torch.ones(2, 3, 32, 32))
    before = copy.deepcopy(model.state_dict()), torch.get_rng_state(), [m.training for m in model.modules()]
    sizes = input_sizes(model, (3, 32, 32))
    assert list(dict.fromkeys(sizes.values())) == [(32, 32), (16, 16), (8, 8)]
    assert len(sizes) == len(weight_parameters(model))
    assert all(torch.equal(a, b) for a, b in zip(before[0].values(), model.state_dict().values(), strict=True))
    assert torch.equal(before[1], torch.get_rng_state())
    assert before[2] == [m.training for m in model.modules()]
    assert not any(m._forward_pre_hooks for m in model.modules())
    assert input_sizes(network(), (2, 9, 9)) == SIZES


def test_it_adds_the_gradient_of_the_exact_norms() -> None:
    """After many iterations every layer has the gradient of lambda / 2 * |A|^2 by autograd."""
    model = network()
    exact = copy.deepcopy(model)
    actual, penalty = added(SpectralOperatorOptions(factor=LAMBDA, n_iterations=1500), model, *batch())
    norms = {name: dense_norm(layer, SIZES.get(name, (1, 1))) for name, layer in exact.named_children()}
    objective = LAMBDA / 2 * torch.stack([norm.square() for norm in norms.values()]).sum()
    objective.backward()
    for extra, p in zip(actual, exact.parameters(), strict=True):
        assert_close(extra, torch.zeros_like(p) if p.grad is None else p.grad, rtol=1e-6, atol=1e-8)
    assert_close(penalty, objective.detach(), rtol=1e-9, atol=0)
    first, reshaped = norms["first"].item(), torch.linalg.matrix_norm(exact.first.weight.flatten(1), 2).item()
    assert first == pytest.approx(operator_norm(exact.first.weight, (9, 9), 1, 1), rel=1e-6)
    assert reshaped * 1.1 < first < reshaped * 3  # it is not the penalty of `spectral`


def test_it_is_spectral_where_layers_are_matrices() -> None:
    """For 1x1 convolutions and linear layers every step is equal, from the same v."""
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(2, 6, 1), nn.ReLU(), nn.Conv2d(6, 4, 1), nn.AvgPool2d(9), nn.Flatten(), nn.Linear(4, 3)
    ).double()
    x, y = batch()
    ours, _ = added(SpectralOperatorOptions(factor=LAMBDA, n_iterations=3000), copy.deepcopy(model), x, y)
    theirs, _ = added(SpectralOptions(factor=LAMBDA, n_iterations=3000), copy.deepcopy(model), x, y)
    assert_close(ours, theirs, rtol=1e-7, atol=1e-9)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(162, 5), nn.ReLU(), nn.Linear(5, 3)).double()
    ours, _ = added(SpectralOperatorOptions(factor=LAMBDA), copy.deepcopy(linear), x, y)
    theirs, _ = added(SpectralOptions(factor=LAMBDA), copy.deepcopy(linear), x, y)
    assert_close(ours, theirs)


def test_one_iteration_a_step_finds_the_norms() -> None:
    """v persists: 400 steps of one iteration are 400 iterations."""
    model = network()
    built = make(SpectralOperatorOptions(factor=2.0), model)
    backward(built, *batch())
    values = [built.regularize() for _ in range(400)]
    exact = sum(dense_norm(layer, SIZES.get(name, (1, 1))).item() ** 2 for name, layer in model.named_children())
    assert values[0] is not None
    assert values[-1] is not None
    assert values[0] < 0.9 * exact
    assert_close(values[-1].item(), exact, rtol=1e-3, atol=0)


def test_the_power_iteration_of_a_convolution_is_that_of_its_matrix() -> None:
    weight = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    operator = Convolution(weight, (6, 5), (2, 2), (1, 1))
    v = torch.ones(operator.input_shape, dtype=torch.float64)
    sigma, u, image = operator.power_iteration(v / v.norm(), 500)
    assert_close(sigma.item(), operator_norm(weight, (6, 5), 2, 1), rtol=1e-9, atol=0)
    assert_close(sigma, (u * operator.apply(image)).sum())
    assert_close((weight * operator.outer(u, image)).sum(), sigma)  # A is linear in the weight
    with pytest.raises(ValueError, match="at least 1"):
        operator.power_iteration(v, 0)


def test_scale_multiplies_lambda_and_with_it_the_stated_dose() -> None:
    scaled, penalty = added(SpectralOperatorOptions(factor=0.02, scale=5.0), network(), *batch())
    plain, expected = added(SpectralOperatorOptions(factor=0.1), network(), *batch())
    assert_close(scaled, plain)
    assert_close(penalty, expected)
    assert make(SpectralOperatorOptions(factor=0.02, scale=5.0), network()).factor == pytest.approx(0.1)


def test_channels_last_is_the_same_penalty() -> None:
    last = network().to(memory_format=torch.channels_last)
    assert not last.first.weight.is_contiguous()
    options = SpectralOperatorOptions(factor=LAMBDA, n_iterations=3)
    ours, penalty = added(options, last, *batch())
    theirs, expected = added(options, network(), *batch())
    assert_close(ours, theirs)
    assert_close(penalty, expected)


def test_its_state_is_restored_before_and_after_the_first_step() -> None:
    model, (x, y) = network(), batch()
    first = make(SpectralOperatorOptions(), model, seed=3)
    assert first.state_dict() == {}
    fresh = make(SpectralOperatorOptions(), copy.deepcopy(model), seed=3)
    fresh.load_state_dict({})
    backward(first, x, y)
    backward(fresh, x, y)
    assert_close(first.regularize(), fresh.regularize(), rtol=0, atol=0)
    other = make(SpectralOperatorOptions(), model, seed=99)
    other.load_state_dict(first.state_dict())
    backward(other, x, y)  # draws no new v
    assert_close(first.regularize(), other.regularize(), rtol=0, atol=0)
    states = first.state_dict(), other.state_dict()
    assert [v.shape for v in states[0].values()] == [
        (1, 2, 9, 9),
        (1, 4, 4, 4),
        (1, 6, 2, 4),
        (1, 4, 2, 4),
        (1, 15, 1, 1),
    ]
    assert all(torch.equal(a, b) for a, b in zip(*(state.values() for state in states), strict=True))


@pytest.mark.parametrize("setting", ["digits_nin", "digits_densenet"])
def test_the_first_call_moves_no_random_stream_and_no_buffer(setting: str) -> None:
    """Running statistics, masks and order after two updates at lambda = 0 are those of vanilla."""
    few = ("data.subset=100", "data.test_subset=50", "train.device=cpu", "batch.size=20", "model.dropout=0.3")
    reference, ours = (
        start(configure(compose_tree(f"setting={setting}", f"method={name}", *few, *more)))
        for name, more in (("vanilla", ()), ("spectral_operator", ("method.factor=0",)))
    )
    states = []
    for session in (reference, ours):
        torch.manual_seed(5)
        session.task.model.train()
        for _ in range(2):
            advance(session)
        states.append({**session.task.model.state_dict(), "stream": torch.get_rng_state()})
    assert all(torch.equal(a, b) for a, b in zip(*(state.values() for state in states), strict=True))


@pytest.mark.parametrize("stop", [1, 5])
def test_a_stopped_run_equals_an_uninterrupted_one(tiny: Make, tmp_path: Any, stop: int) -> None:
    options = ("method=spectral_operator", "measure.hessian=false")
    whole = tiny(*options)
    pieces = tiny(*options, f"results={tmp_path / 'pieces'}", f"train.stop_after={stop}")
    result = run(whole)
    while not store.is_finished(pieces.directory):
        try:
            run(pieces)
        except Interrupted:
            torch.manual_seed(7)  # whatever else a process does with torch's own stream
    timings = ["train_seconds", "measure_seconds"]
    a, b = (store.read(config.directory).history.drop(columns=timings) for config in (whole, pieces))
    pd.testing.assert_frame_equal(a, b, check_exact=True)
    states = [checkpoint.load(config.directory) for config in (whole, pieces)]
    for part in ("model", "method"):
        x, y = (state["task"][part] for state in states if state is not None)
        assert all(torch.equal(x[key], y[key]) for key in x)
    assert result.dose["e_folds"] == pytest.approx(0.01 * result.dose["learning_rate_sum"] / 0.1)
    assert (a["penalty"] > 0).all()


def test_what_is_unsupported_is_reported() -> None:
    options = SpectralOperatorOptions()
    circular = nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular")
    for bad in (nn.Conv2d(2, 3, 4, padding="same"), circular, nn.Conv3d(2, 3, 3)):
        with pytest.raises(ConfigError, match=r"cannot treat 0\.weight: .*; use method=spectral"):
            methods.build(options, nn.Sequential(bad), torch.Generator())
    model = network()
    model.spare = nn.Conv2d(1, 1, 1).double()
    with pytest.raises(ConfigError, match=r"spare\.weight takes no part in the forward pass"):
        backward(make(options, model), *batch())
    for field, value in (("factor", -1.0), ("scale", -1.0), ("n_iterations", 0)):
        with pytest.raises(ConfigError, match=f"method.{field}={value}"):
            SpectralOperatorOptions(**{field: value})  # type: ignore[arg-type]
