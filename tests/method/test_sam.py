"""Sharpness-aware minimisation against two steps made by hand, in float64."""

import copy

import pytest
import torch
from classifiers import batch, gradients, make, network, risk
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close
from updates import SPLIT, Make, same, small, trained

from sns.common.errors import ConfigError
from sns.method import METHODS
from sns.method.sam import SAMOptions, SharpnessAware
from sns.optim import OPTIMIZERS

RHO = 0.5  # large: the gradient at the moved weights is another


def by_hand(model: nn.Module, x: Tensor, y: Tensor) -> list[Tensor]:
    """The gradient at w + rho g / |g|, on a copy of the model."""
    here, there = copy.deepcopy(model), copy.deepcopy(model)
    trained_ones = [p for p in here.parameters() if p.requires_grad]
    g = torch.autograd.grad(F.cross_entropy(here(x), y), trained_ones)
    norm = torch.cat([part.flatten() for part in g]).norm()
    moved = [p for p in there.parameters() if p.requires_grad]
    with torch.no_grad():
        for p, part in zip(moved, g, strict=True):
            p += RHO * part / norm
    return list(torch.autograd.grad(F.cross_entropy(there(x), y), moved))


@pytest.mark.parametrize("parts", [1, 3])
def test_it_is_the_gradient_at_the_moved_weights(parts: int) -> None:
    """In several passes it is m-SAM: each moves the weights by its own gradient, from one w."""
    model, (x, y) = network(), batch()
    before = [p.detach().clone() for p in model.parameters()]
    pieces = list(zip(x.chunk(parts), y.chunk(parts), strict=True))
    expected = [sum(part) / parts for part in zip(*(by_hand(model, *piece) for piece in pieces), strict=True)]
    built = make(SAMOptions(rho=RHO), model)
    for px, py in pieces:
        built.backward(risk(model, py), px, len(py) / len(y))
    assert built.regularize() is None
    assert_close(gradients(model), expected)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_only_the_first_pass_moves_running_statistics_and_is_reported() -> None:
    ours, theirs = network(), network()
    x, y = batch()
    sums = make(SAMOptions(rho=RHO), ours).backward(risk(ours, y), x, 1.0)
    expected = make(METHODS["vanilla"].Config(), theirs).backward(risk(theirs, y), x, 1.0)
    assert torch.equal(sums["loss"], expected["loss"])
    assert all(torch.equal(a, b) for a, b in zip(ours.buffers(), theirs.buffers(), strict=True))


def test_the_second_pass_draws_masks_of_its_own() -> None:
    ours, theirs = network(dropout=0.5), network(dropout=0.5)
    x, y = batch()
    torch.manual_seed(3)
    make(SAMOptions(rho=0.0), ours).backward(risk(ours, y), x, 1.0)
    after = torch.get_rng_state()
    torch.manual_seed(3)
    theirs(x)
    F.cross_entropy(theirs(x), y).backward()
    assert torch.equal(after, torch.get_rng_state())
    assert_close(gradients(ours), gradients(theirs))


def test_frozen_weights_neither_move_nor_count() -> None:
    model, (x, y) = network(), batch()
    model[0].weight.requires_grad_(False)
    frozen = model[0].weight.clone()
    expected = by_hand(model, x, y)
    model[0].weight.grad = torch.full_like(frozen, 9.0)  # of an earlier time
    sharpness = SharpnessAware(model, RHO)
    F.cross_entropy(model(x), y).backward()
    with sharpness.moved():
        assert torch.equal(model[0].weight, frozen)
        F.cross_entropy(model(x), y).backward()
    assert_close([p.grad for p in model.parameters() if p.requires_grad], expected)


def test_weights_and_flags_come_back_bitwise_also_after_an_error() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(108, 3))
    x, y = batch()
    F.cross_entropy(model(x.float()), y).backward()
    before = copy.deepcopy(model.state_dict())
    step = [p.grad.clone() for p in model.parameters()]
    length = torch.cat([p.flatten() for p in step]).norm()

    def second_pass() -> None:
        with SharpnessAware(model, 0.05).moved():
            assert all(p.grad is None for p in model.parameters())
            moved = torch.cat([(p - before[name]).flatten() for name, p in model.named_parameters()])
            assert_close(moved, 0.05 / length * torch.cat([p.flatten() for p in step]), rtol=1e-3, atol=1e-7)
            model(x.float())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        second_pass()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    model(x.float())
    assert model[1].num_batches_tracked == before["1.num_batches_tracked"] + 1


def test_a_gradient_of_zero_moves_nothing() -> None:
    model = nn.Linear(3, 2)
    model(torch.zeros(4, 3)).mul(0).sum().backward()
    before = model.weight.detach().clone()
    with SharpnessAware(model).moved():
        assert torch.equal(model.weight, before)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_without_a_step_it_is_vanilla_for_every_optimizer(tiny: Make, name: str) -> None:
    still = ("model.dropout=[[0.0],[0.0],[0.0]]", "model.head_dropout=0", f"optim={name}", *SPLIT)
    plain, ours, moving = (
        dict(trained(tiny(*still, *method), 3).task.model.state_dict())
        for method in (["method=vanilla"], ["method=sam", "method.rho=0"], ["method=sam"])
    )
    assert same(plain, ours)
    assert not same(plain, moving)


def test_bf16_trains() -> None:
    session = trained(small("digits_vgg", "method=sam", *SPLIT, "train.precision=bf16"), 3)
    assert session.task.running.sums["loss"].isfinite()
    assert all(p.isfinite().all() for p in session.task.model.parameters())


def test_a_negative_step_is_refused() -> None:
    for make_one in (lambda: SAMOptions(rho=-1), lambda: SharpnessAware(nn.Linear(2, 2), -1)):
        with pytest.raises(ConfigError, match="rho=-1 must not be negative"):
            make_one()
