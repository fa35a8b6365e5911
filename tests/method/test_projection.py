"""Projections: against the dense decomposition in float64, in training, and resumed."""

import copy
import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pandas as pd
import pytest
import torch
from linalg.test_weights import Mixed
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize
from torch.testing import assert_close
from updates import PROJECTIONS

from sns import method as methods
from sns import optim
from sns.common.errors import ConfigError
from sns.config.schema import Config
from sns.linalg.conv_operator import operator_norm
from sns.linalg.weights import Weight, weights_of
from sns.method import METHODS, Method
from sns.method.lipschitz_projection import LipschitzProjection
from sns.method.projection import WeightProjection
from sns.method.spectral_cap import SpectralHardCap, SpectralSoftCap
from sns.method.spectral_decay import SpectralHammer, SpectralWeightDecay
from sns.model.ghost_norm import GhostBatchNorm2d
from sns.optim import OPTIMIZERS
from sns.record import store
from sns.train import checkpoint
from sns.train.run import run
from sns.train.stop import Interrupted

Make = Callable[..., Config]
CLASSES = (LipschitzProjection, SpectralWeightDecay, SpectralHammer, SpectralSoftCap, SpectralHardCap)
LR, FACTOR, LIMIT, MANY = 0.05, 3.0, 0.7, 300
LONG = 120.0  # lr * update_norm: all weights lie within the reach of the soft cap for a limit of 20


def mixed() -> Mixed:
    """All kinds of layers, without a parametrised one."""
    model = Mixed()
    parametrize.remove_parametrizations(model.normalized, "weight")
    return model


def quietly(make: Callable[[], Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return make()


def lipschitz(weight: Weight, s: Tensor) -> Tensor:
    conv = isinstance(weight.module, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d))
    return s / (s[:, :1] / (LIMIT if conv else 2 * LIMIT)).clamp_min(1)


def first(s: Tensor, value: Tensor) -> Tensor:
    return torch.cat([value, s[:, 1:]], dim=1)


def soft(s: Tensor) -> Tensor:
    """20 * q(p(s / 20)), strength for a reach of 20 + lr * update_norm = 26, by bisection."""
    low, high = 0.0, 1 / 3 / 1.3**2
    for _ in range(80):
        alpha = (low + high) / 2
        p = 1.3 - alpha * 1.3**3
        low, high = (alpha, high) if p + alpha * p**3 > 1 else (low, alpha)
    p = s / 20 - alpha * (s / 20) ** 3
    return 20 * (p + alpha * p**3)


Reference = Callable[[Weight, Tensor], Tensor]
DENSE: dict[str, tuple[Callable[[nn.Module], WeightProjection], Reference]] = {
    "lipschitz_projection": (lambda m: LipschitzProjection(m, LIMIT, 2 * LIMIT, n_iterations=MANY), lipschitz),
    "spectral_decay": (
        lambda m: SpectralWeightDecay(m, FACTOR, n_iterations=MANY),
        lambda _, s: first(s, s[:, :1] * (1 - LR * FACTOR)),
    ),
    "spectral_hammer": (
        lambda m: SpectralHammer(m, LIMIT, n_iterations=MANY),
        lambda _, s: first(s, torch.full_like(s[:, :1], LIMIT)),
    ),
    "spectral_soft_cap": (lambda m: SpectralSoftCap(m, 20.0, LONG), lambda _, s: soft(s)),
    "spectral_hard_cap": (lambda m: SpectralHardCap(m, LIMIT), lambda _, s: s.clamp_max(LIMIT)),
}


@pytest.mark.parametrize("name", PROJECTIONS)
def test_every_kind_of_layer_against_the_dense_decomposition(name: str) -> None:
    """Each block of a block-diagonal weight, tied weights once, and nothing else changes."""
    model, (make, reference) = mixed(), DENSE[name]
    before = copy.deepcopy(model)
    projection = quietly(lambda: make(model))
    assert_close(model.state_dict(), before.state_dict(), rtol=0, atol=0)
    projection.apply_(LR)
    touched = set[int]()
    for old, new in zip(weights_of(before), weights_of(model), strict=True):
        if old.name == "frozen.weight":
            assert torch.equal(old.matrices(), new.matrices())
            continue
        touched.add(id(new.parameter))
        u, s, vh = torch.linalg.svd(old.matrices(), full_matrices=False)
        wanted = (u * reference(old, s).unsqueeze(1)) @ vh
        tolerance = 3e-5 * s.square().max().item() / LIMIT if name == "spectral_hard_cap" else 1e-6
        assert_close(new.matrices(), wanted, rtol=0, atol=tolerance, msg=lambda text, n=old.name: f"{n}: {text}")
    for (key, old), new in zip(before.named_parameters(), model.parameters(), strict=True):
        assert (id(new) in touched) != torch.equal(old, new), key


def network(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """Convolutions, one in groups, batch norm and linear layers, for images (2, 8, 8)."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 8, 3, padding=1), GhostBatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 12, 3, stride=2, groups=2)]
    return nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(108, 20), nn.ReLU(), nn.Linear(20, 3)).to(dtype)


def largest(model: nn.Module) -> float:
    return max(torch.linalg.matrix_norm(w.matrices().double(), 2).max().item() for w in weights_of(model))


def train(method: Method, model: nn.Module, optimizer: str, rate: float, steps: int = 60) -> tuple[list[float], float]:
    """sigma_max after every step, and the last loss, on 64 random images."""
    draw = torch.Generator().manual_seed(1)
    x, y = torch.randn(64, 2, 8, 8, generator=draw), torch.randint(0, 3, (64,), generator=draw)
    steps_of = optim.build(OPTIMIZERS[optimizer].Config(name=optimizer, lr=rate), model.parameters())
    steps_of.set_rate(rate)
    method.set_rate(rate)
    norms = []
    for _ in range(steps):
        steps_of.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        steps_of.step()
        method.project()
        norms.append(largest(model))
    return norms, loss.item()


OPTIONS: dict[str, dict[str, Any]] = {
    "lipschitz_projection": {"conv": 1.0, "linear": 1.0, "n_iterations": 16},
    "spectral_decay": {"factor": 1.0},
    "spectral_hammer": {},
    "spectral_soft_cap": {},
    "spectral_hard_cap": {},
}
# Of sigma_max above the limit of 1, after every step. A power iteration is a lower bound, and only
# Muon's steps have the length that the soft cap expects. The others promise no bound.
EXCESS = {"lipschitz_projection": 0.02, "spectral_soft_cap": 0.05, "spectral_hard_cap": 1e-4}


@pytest.mark.parametrize(("optimizer", "rate"), [("nesterov", 0.1), ("adamw", 0.01), ("muon", 0.02)])
@pytest.mark.parametrize("name", PROJECTIONS)
def test_in_training_sigma_is_held_with_every_optimizer(name: str, optimizer: str, rate: float) -> None:
    free = network()
    above, _ = train(methods.build(METHODS["vanilla"].Config(), free, torch.Generator()), free, optimizer, rate)
    model = network()
    method = methods.build(METHODS[name].Config(name=name, **OPTIONS[name]), model, torch.Generator())
    norms, loss = train(method, model, optimizer, rate)
    assert loss < 0.5
    assert above[-1] > 1.7
    assert norms[-1] < 0.9 * above[-1]
    if name in EXCESS:
        bound = 1 if (name, optimizer) == ("spectral_soft_cap", "muon") else 1 + EXCESS[name]
        assert max(norms) <= bound + 1e-6


@pytest.mark.parametrize("name", PROJECTIONS)
def test_the_method_is_its_drop_in_class_at_the_optimizers_rate(name: str) -> None:
    cls, models = dict(zip(PROJECTIONS, CLASSES, strict=True))[name], (network(), network())
    changed = {"spectral_decay": {"factor": 0.7}}.get(name, {"limit": 0.4})
    options = changed
    if name == "lipschitz_projection":
        changed, options = {"conv": 0.3, "linear": 0.4}, {"conv": 0.6, "linear": 0.8, "multiple": 0.5}
    method = methods.build(METHODS[name].Config(name=name, **options), models[0], torch.Generator().manual_seed(5))
    method.set_rate(0.25)
    method.project()
    own = {} if "cap" in name else {"generator": torch.Generator().manual_seed(5)}
    own |= {"n_iterations": method.options.n_iterations} if own else {}
    cls(models[1], **changed, **own).apply_(0.25)
    assert_close(models[0].state_dict(), models[1].state_dict(), rtol=0, atol=0)
    assert largest(models[0]) < 0.95 * largest(network())


def test_the_first_projection_holds_already() -> None:
    """Vectors are iterated before training, so that sigma of a random start is not far too low."""
    for cls in (LipschitzProjection, SpectralHammer):
        model = network()
        with torch.no_grad():
            for weight in weights_of(model):
                weight.parameter.mul_(5)  # type: ignore[union-attr]
        before = [torch.linalg.svdvals(w.matrices())[:, 1].max() for w in weights_of(model)]
        limits = {"conv": 0.5, "linear": 0.5} if cls is LipschitzProjection else {"limit": 0.5}
        cls(model, **limits, n_iterations=1).apply_(0.1)
        allowed = 0.5 if cls is LipschitzProjection else torch.stack(before).max().item()
        assert largest(model) < 1.02 * allowed


def test_the_soft_cap_reaches_its_limit_from_any_start_and_leaves_what_is_small() -> None:
    model = network(torch.float64)
    with torch.no_grad():
        for weight in weights_of(model):
            weight.parameter.mul_(50)  # type: ignore[union-attr]
    projection, norms = SpectralSoftCap(model), [largest(model)]
    while norms[-1] > 1.3:
        projection.apply_(0.0)
        norms.append(largest(model))
    assert all(new == pytest.approx(0.765 * old, rel=0.02) for old, new in pairwise(norms[:-1]))
    projection.apply_(0.0)
    assert largest(model) < 1.05
    small = network(torch.float64)
    before = copy.deepcopy(small.state_dict())
    SpectralSoftCap(small, 1.0).apply_(0.0)
    assert_close(small.state_dict(), before, rtol=1e-5, atol=0)


def test_the_steps_rate_sets_the_strength_of_the_soft_cap_also_as_a_tensor() -> None:
    norms = []
    for rate in (0.0, 0.05, torch.tensor(0.05), 0.2):
        model = network(torch.float64)
        SpectralSoftCap(model, 1.0).apply_(rate)
        norms.append(largest(model))
    assert norms[0] > norms[1] > norms[3]
    assert norms[2] == pytest.approx(norms[1], rel=1e-7)


@pytest.mark.parametrize("name", PROJECTIONS)
def test_in_16_bits_and_under_autocast(name: str) -> None:
    """The result is that of float32, rounded once; autocast changes nothing."""
    with torch.no_grad():
        exact, rounded, cast = network(), network().bfloat16(), network()
        for model in (exact, rounded, cast):
            for target, source in zip(model.parameters(), network().bfloat16().parameters(), strict=True):
                target.copy_(2 * source)
    cls = dict(zip(PROJECTIONS, CLASSES, strict=True))[name]
    cls(exact).apply_(0.5)
    cls(rounded).apply_(0.5)
    with torch.autocast("cpu", torch.bfloat16):
        cls(cast).apply_(0.5)
    assert_close(cast.state_dict(), exact.state_dict(), rtol=0, atol=0)
    assert {p.dtype for p in rounded.parameters()} == {torch.bfloat16}
    for (key, p), q in zip(rounded.named_parameters(), exact.parameters(), strict=True):
        assert_close(p.float(), q, rtol=2**-7, atol=1e-4, msg=lambda text, n=key: f"{n}: {text}")


@pytest.mark.parametrize("cls", CLASSES)
def test_a_model_may_move_and_the_state_is_restored(cls: Any) -> None:
    """Another type and memory format go on from the same vectors, as does a new object."""
    models = [network().double() for _ in range(3)]
    projections = [cls(model, generator=torch.Generator().manual_seed(i)) if "Cap" not in cls.__name__ else cls(model)
                   for i, model in enumerate((models[0], models[0], models[2]))]  # fmt: skip
    projections[1] = copy.deepcopy(projections[0])
    moved = projections[1].model.to(memory_format=torch.channels_last)
    assert not moved[0].weight.is_contiguous()
    projections[2].load_state_dict(projections[0].state_dict())
    for projection in projections:
        projection.apply_(0.1)
        projection.apply_(0.1)
    for other in projections[1:]:
        assert_close(other.model.state_dict(), models[0].state_dict())
        assert_close(other.state_dict(), projections[0].state_dict())
    if "Cap" in cls.__name__:
        with pytest.raises(ValueError, match=f"{cls.__name__} has no place for weights.v0"):
            projections[0].load_state_dict({"weights.v0": torch.ones(1)})


def test_batch_norm_is_divided_by_its_largest_gain() -> None:
    """BNConstraint of arch/lipschitz.py, with the layer's own epsilon."""
    model = network(torch.float64)
    layer, before = model[1], copy.deepcopy(model.state_dict())
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(-3, 1, 8))
        layer.running_var.copy_(torch.linspace(0.2, 2, 8))
    gamma, gain = layer.weight.detach().clone(), (layer.weight.abs() / (layer.running_var + layer.eps).sqrt()).max()
    LipschitzProjection(model, None, None, norm=2.0).apply_(0.1)
    assert gain > 6
    assert_close(layer.weight.detach(), gamma * 2 / gain.detach())
    capped = layer.weight.detach().clone()
    LipschitzProjection(model, None, None, norm=2.1).apply_(0.1)
    assert torch.equal(layer.weight, capped)
    for key, value in model.state_dict().items():
        assert key in ("1.weight", "1.running_var") or torch.equal(value, before[key]), key
    model[1] = nn.BatchNorm2d(8, track_running_stats=False)
    with pytest.raises(ConfigError, match=r"norm=2\.0 needs running statistics"):
        LipschitzProjection(model, norm=2.0)


def test_the_norm_of_a_convolution_as_a_map_of_images_is_bounded() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 4, 3, stride=2)).double()
    exact = operator_norm(model[0].weight, (5, 4), 1, 1), operator_norm(model[2].weight, (5, 4), 2, 0)
    options = {"conv": 0.8 * min(exact), "n_iterations": 2000, "operator": True}
    with pytest.raises(ConfigError, match=r"needs input_shape=\(C, H, W\)"):
        LipschitzProjection(model, **options).apply_(0.1)
    LipschitzProjection(model, **options, input_shape=(2, 5, 4)).apply_(0.1)
    norms = operator_norm(model[0].weight, (5, 4), 1, 1), operator_norm(model[2].weight, (5, 4), 2, 0)
    assert norms == pytest.approx((0.8 * min(exact), 0.8 * min(exact)), rel=1e-6)


def test_what_cannot_be_projected_is_one_sentence() -> None:
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 3)), nn.Linear(3, 3))
    for cls in CLASSES:
        with pytest.raises(ConfigError, match=r"^0\.weight is parametrised: .*; remove one of the two$"):
            cls(model)
    for name, field in (("spectral_decay", "factor"), ("spectral_soft_cap", "update_norm")):
        with pytest.raises(ConfigError, match=rf"method\.{field}=-1\.0 must not be negative"):
            METHODS[name].Config(**{field: -1.0})
    for name, field in zip(PROJECTIONS, ("multiple", "n_iterations", "limit", "limit", "limit"), strict=True):
        with pytest.raises(ConfigError, match=rf"method\.{field}=0 must be positive"):
            METHODS[name].Config(**{field: 0})
    for make in (
        lambda m: SpectralWeightDecay(m, -1.0),
        lambda m: SpectralHammer(m, 0.0),
        lambda m: SpectralHardCap(m, -1.0),
        lambda m: SpectralSoftCap(m, 1.0, -1.0),
        lambda m: LipschitzProjection(m, 0.0),
        lambda m: LipschitzProjection(m, n_iterations=0),
    ):
        with pytest.raises(ConfigError, match="must"):
            make(network())


@pytest.mark.parametrize("name", [*PROJECTIONS, "lipschitz_projection method.operator=true method.norm=8"])
def test_a_stopped_run_equals_an_uninterrupted_one(tiny: Make, tmp_path: Any, name: str) -> None:
    options = (*f"method={name}".split(), "measure.hessian=false")
    whole = tiny(*options)
    pieces = tiny(*options, f"results={tmp_path / 'pieces'}", "train.stop_after=5")
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
        assert x.keys() == y.keys()
        assert all(torch.equal(x[key], y[key]) for key in x)
    assert result.dose["e_folds"] is None
