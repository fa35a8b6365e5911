"""Jacobian and layer-wise Jacobian regularisation against explicit Jacobians, in float64."""

import copy
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
import torch
from classifiers import batch, make, network, risk
from conftest import compose_tree
from torch import Tensor, nn
from torch.autograd.functional import jacobian
from torch.nn import functional as F
from torch.testing import assert_close
from updates import SPLIT, Make, small, trained

from sns.common.errors import ConfigError, UserError
from sns.method import METHODS, Method
from sns.method.jacobian import JacobianOptions, JacobianPenalty, Projections
from sns.method.layerwise_jacobian import LayerwiseJacobianOptions, LayerwiseJacobianPenalty
from sns.model import MODELS
from sns.model.init import initialize
from sns.record import store
from sns.train import checkpoint
from sns.train.configure import configure
from sns.train.run import run
from sns.train.session import start
from sns.train.stop import Interrupted

BOTH = ("jacobian", "layerwise_jacobian")
OPTIONS: dict[str, Any] = {"jacobian": JacobianOptions, "layerwise_jacobian": LayerwiseJacobianOptions}
LAMBDA = 0.3


def smooth() -> nn.Sequential:
    """A chain without batch norm: examples do not interact. 6x6 images, 3 classes."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 3, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(3, 2, 2), nn.Sigmoid()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, 3)).double()


def images(n: int = 6) -> tuple[Tensor, Tensor]:
    x, y = batch(n)
    return x[:, :, :6, :6].contiguous(), y


def step(options: Any, model: nn.Module, x: Tensor, y: Tensor, parts: int = 1) -> tuple[Method, Tensor, list[Tensor]]:
    """The method after one update, its penalty and the gradients."""
    built = make(options, model)
    for px, py in zip(x.chunk(parts), y.chunk(parts), strict=True):
        built.backward(risk(model, py), px, len(py) / len(y))
    penalty = built.regularize()
    assert penalty is not None
    return built, penalty, [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]


def explicit(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The mean over examples of |J|_F^2 from each example's own Jacobian, for autograd."""
    jacobians = [jacobian(function, one.unsqueeze(0), create_graph=True) for one in x]
    return torch.stack([j.square().sum() for j in jacobians]).mean()


def layers_of(model: nn.Sequential) -> list[nn.Sequential]:
    """Each weight layer with all that follows it up to the next."""
    starts = [place for place, layer in enumerate(model) if isinstance(layer, (nn.Conv2d, nn.Linear))]
    return [model[a:b] for a, b in zip(starts, [*starts[1:], len(model)], strict=True)]


def layerwise(model: nn.Sequential, x: Tensor) -> Tensor:
    """The mean over examples of sum_l |d x^l / d x^(l-1)|_F^2, for autograd."""
    total = torch.zeros((), dtype=x.dtype)
    for layer in layers_of(model):
        total = total + explicit(layer, x)
        x = layer(x)
    return total


REFERENCE: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "jacobian": explicit,
    "layerwise_jacobian": layerwise,
}


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("name", BOTH)
def test_the_exact_form_adds_the_gradient_of_the_explicit_jacobians(name: str, parts: int) -> None:
    model, (x, y) = smooth(), images()
    reference = copy.deepcopy(model)
    penalty = LAMBDA / 2 * REFERENCE[name](reference, x)
    (F.cross_entropy(reference(x), y) + penalty).backward()
    _, value, gradients = step(OPTIONS[name](factor=LAMBDA, exact=True), model, x, y, parts)
    assert_close(value, penalty.detach())
    assert_close(gradients, [p.grad for p in reference.parameters()])


def spread(j: Tensor, exact: bool) -> Tensor:
    """The standard deviation of one estimate of |J|_F^2, for J (N, C, inputs) of a whole pass.

    Let A = J J^T in blocks A_ij (C, C). For v uniform on the sphere of radius sqrt(C), v^T A_ii v
    has variance 2 C / (C + 2) * (|A_ii|_F^2 - tr(A_ii)^2 / C), and each pair i != j adds
    2 |A_ij|_F^2, because E[v v^T] = I. With signed basis vectors only the pairs of examples vary,
    in entries of equal output.
    """
    n, c = j.shape[:2]
    a = torch.einsum("icx,jdx->ijcd", j, j)
    pairs = ~torch.eye(n, dtype=torch.bool)
    if exact:
        return (2 * a.diagonal(dim1=2, dim2=3)[pairs].square().sum()).sqrt()
    own = a[~pairs]
    trace = own.diagonal(dim1=1, dim2=2).sum(dim=1)
    variance = 2 * c / (c + 2) * (own.square().sum() - (trace.square() / c).sum()) + 2 * a[pairs].square().sum()
    return variance.sqrt()


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("normalised", [False, True])
def test_the_mean_of_many_estimates_is_the_norm(normalised: bool, exact: bool) -> None:
    """With batch norm it is that of all logits with respect to all images of the pass."""
    model, (x, _) = (network() if normalised else smooth()), (batch(4) if normalised else images(4))
    full = jacobian(model, x).flatten(3).flatten(2) if normalised else jacobian(model, x).flatten(2)
    whole, own = full.square().sum() / 4, explicit(model, x).detach() if not normalised else None
    draws, projections = 3000, Projections(exact=exact, generator=torch.Generator().manual_seed(3))
    x = x.requires_grad_()
    outputs = model(x)
    estimates = torch.stack([projections.squared_norm(outputs, x).detach() for _ in range(draws)])
    deviation = spread(full, exact) / 4 / draws**0.5
    assert deviation < 0.01 * whole  # the test sees an error of 4% in the normalisation
    assert (estimates.mean() - whole).abs() < 4 * deviation + 1e-12 * whole
    if own is not None:
        assert_close(whole, own)


def test_several_projections_are_averaged() -> None:
    model, (x, _) = smooth(), images(2)
    x.requires_grad_()
    outputs = model(x)
    several = Projections(n_proj=3, generator=torch.Generator().manual_seed(5)).squared_norm(outputs, x)
    one = Projections(generator=torch.Generator().manual_seed(5))
    assert_close(several, torch.stack([one.squared_norm(outputs, x) for _ in range(3)]).mean())


def test_the_value_is_the_published_implementations() -> None:
    """facebookresearch/jacobian_regularizer adds lambda R, R = C |v^T J|^2 / (2 n B), |v| = 1.

    Here J = W_2 diag(1 - h^2) W_1 is written out. Its n = -1, the exact norm, is the second value.
    """
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    x = torch.randn(7, 5, dtype=torch.float64, requires_grad=True)
    first, last = model[0].weight.detach(), model[2].weight.detach()
    slopes = 1 - torch.tanh(model[0](x)).square().detach()
    jacobians = torch.stack([last @ torch.diag(slope) @ first for slope in slopes])
    draw = torch.Generator().manual_seed(8)
    v = torch.stack([torch.randn(7, 3, generator=draw, dtype=torch.float64) for _ in range(2)])
    v = v / v.norm(dim=2, keepdim=True)
    products = torch.einsum("pbc,bcx->pbx", v, jacobians)
    published = sum(3 * product.norm() ** 2 / (2 * 7) for product in products) / 2
    random = JacobianPenalty(0.01, n_proj=2, generator=torch.Generator().manual_seed(8))
    assert_close(random(model(x), x).detach(), 0.01 * published)
    assert_close(JacobianPenalty(0.01, exact=True)(model(x), x).detach(), 0.01 * jacobians.norm() ** 2 / (2 * 7))


class Growing(nn.Module):
    """Appends what a layer gives to its input, as DenseNet does."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(4, 3).double(), nn.Linear(7, 2).double()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.second(torch.tanh(torch.cat([x, self.first(torch.sin(x))], dim=1)))
        return logits


def test_appended_features_are_constant_for_the_next_layer() -> None:
    """x^1 depends on x^0, the first layer's input, through this layer only."""
    model, x = Growing(), torch.randn(5, 4, dtype=torch.float64)
    penalty = LayerwiseJacobianPenalty(model, LAMBDA, exact=True)
    with penalty.recording():
        outputs = model(x)
    value = penalty(outputs)
    h = torch.tanh(model.first(torch.sin(x)))
    inner = torch.einsum("no,oi->noi", 1 - h.square(), model.first.weight).square().sum() / 5
    assert_close(value, LAMBDA / 2 * (inner + model.second.weight.square().sum()))
    assert not model.first._forward_pre_hooks


def test_linear_layers_alone_are_weight_decay() -> None:
    """Section 3.3: without activations the layer-wise penalty is lambda / 2 * sum |W_l|_F^2."""
    model = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 3)).double()
    penalty = LayerwiseJacobianPenalty(model, LAMBDA, exact=True)
    with penalty.recording():
        outputs = model(torch.randn(6, 4, dtype=torch.float64))
    penalty(outputs).backward()
    for layer in model:
        assert_close(layer.weight.grad, LAMBDA * layer.weight.detach())


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("setting", ["digits_vgg", "digits_nin", "digits_densenet"])
def test_gradients_are_those_of_the_objective_on_the_papers_networks(setting: str, name: str) -> None:
    """By central differences along one direction, with ghost batch norm and dropout."""
    torch.manual_seed(0)
    config = configure(compose_tree(f"setting={setting}"))
    model = MODELS[config.model.name](config.model, 1, 8, 10, 4)
    initialize(model, torch.Generator().manual_seed(0))
    model.double().train()
    x, y = torch.randn(8, 1, 8, 8, dtype=torch.float64), torch.arange(8)
    built = make(OPTIONS[name](factor=1e-3 if name == "layerwise_jacobian" else 0.3), model)
    before, parameters = built.state_dict(), list(model.parameters())

    def objective() -> Tensor:
        model.zero_grad()
        built.load_state_dict(before)
        torch.manual_seed(1)  # of the dropout masks
        loss = built.backward(risk(model, y), x, 1.0)["loss"] / len(y)
        penalty = built.regularize()
        assert penalty is not None
        assert penalty > 0.01 * loss
        return loss + penalty

    objective()
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters]
    direction = [torch.randn_like(p) for p in parameters]
    values = []
    for size in (1e-7, -2e-7):
        torch._foreach_add_([p.detach() for p in parameters], direction, alpha=size)
        values.append(objective())
    expected = sum((g * d).sum() for g, d in zip(gradients, direction, strict=True))
    assert_close((values[0] - values[1]) / 2e-7, expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", BOTH)
def test_running_statistics_sums_and_masks_are_those_of_one_plain_pass(name: str) -> None:
    ours, theirs = network(dropout=0.5), network(dropout=0.5)
    x, y = batch()
    torch.manual_seed(4)
    sums = make(OPTIONS[name](), ours).backward(risk(ours, y), x, 1.0)
    state = torch.get_rng_state()
    torch.manual_seed(4)
    expected = make(METHODS["vanilla"].Config(), theirs).backward(risk(theirs, y), x, 1.0)
    assert torch.equal(sums["loss"], expected["loss"])
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(ours.buffers(), theirs.buffers(), strict=True))


@pytest.mark.parametrize("name", [*BOTH, "sam"])
@pytest.mark.parametrize("stop", [1, 5])
def test_a_stopped_run_equals_an_uninterrupted_one(tiny: Make, tmp_path: Any, stop: int, name: str) -> None:
    options = (f"method={name}", "measure.hessian=false", "measure.spectra=false")
    whole = tiny(*options)
    pieces = tiny(*options, f"results={tmp_path / 'pieces'}", f"train.stop_after={stop}")
    run(whole)
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
    assert (a["penalty"] > 0).all() == (name != "sam")


def test_bf16_is_near_fp32() -> None:
    """Without kinks: 6 layers, forward and backward, err by 2^-8 at most, squares by twice that."""
    model, (x, _) = smooth().float(), images()
    x = x.float().requires_grad_()
    penalties = []
    for enabled in (False, True):
        penalty = JacobianPenalty(LAMBDA, generator=torch.Generator().manual_seed(2))
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            outputs = model(x)
        assert outputs.dtype == (torch.bfloat16 if enabled else torch.float32)
        penalties.append(penalty(outputs.float(), x))
    assert_close(penalties[1], penalties[0], rtol=2 * 12 * 2.0**-8, atol=0)
    assert not torch.equal(*penalties)


@pytest.mark.parametrize("name", BOTH)
def test_bf16_trains(name: str) -> None:
    session = trained(small("digits_vgg", f"method={name}", *SPLIT, "train.precision=bf16"), 3)
    assert session.task.running.penalty > 0
    assert all(p.isfinite().all() for p in session.task.model.parameters())


def test_what_is_unsupported_is_reported(tiny: Make) -> None:
    with pytest.raises(ConfigError, match="real-valued inputs"):
        make(JacobianOptions(), nn.Linear(3, 2)).backward(lambda *_: {}, torch.zeros(4, 3, dtype=torch.int64), 1.0)
    with pytest.raises(ConfigError, match="do not depend on the inputs"):
        JacobianPenalty()(torch.ones(2, 3, requires_grad=True) * 2, torch.ones(2, 3, requires_grad=True))
    with pytest.raises(ConfigError, match="weight layers"):
        LayerwiseJacobianPenalty(nn.ReLU())
    branches = nn.ModuleList([nn.Linear(3, 2), nn.Linear(3, 2)])
    penalty, x = LayerwiseJacobianPenalty(branches), torch.ones(4, 3)
    with penalty.recording():
        outputs = branches[0](x) + branches[1](x)
    with pytest.raises(ConfigError, match="1 does not follow 0"):
        penalty(outputs)
    for option in ({"factor": -1.0}, {"n_proj": 0}):
        with pytest.raises(ConfigError, match=next(iter(option))):
            JacobianOptions(**option)
        with pytest.raises(ConfigError, match=next(iter(option))):
            JacobianPenalty(**option)


@pytest.mark.parametrize("name", BOTH)
def test_a_compiled_network_is_refused_in_one_sentence(tiny: Make, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sns.train.session.choose_mode", lambda *_: "compile")
    with pytest.raises(UserError, match=rf"method={name} differentiates gradients; train\.mode=compile cannot"):
        start(tiny(f"method={name}"))


def test_tokens_have_layer_wise_jacobians() -> None:
    model = nn.Sequential(nn.Embedding(5, 4), nn.Flatten(), nn.Linear(8, 3)).double()
    tokens, y = torch.tensor([[0, 1], [2, 4]]), torch.tensor([0, 2])
    _, penalty, _ = step(LayerwiseJacobianOptions(factor=LAMBDA, exact=True), model, tokens, y)
    assert_close(penalty, LAMBDA / 2 * model[2].weight.square().sum().detach())
