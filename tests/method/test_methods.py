"""Every method's gradient against an independent computation in float64."""

import copy
from typing import Any

import pytest
import torch
from classifiers import batch, gradients, make, network, risk
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from sns import method as methods
from sns.linalg.leading import LeadingVectors
from sns.linalg.weights import weight_parameters
from sns.method import METHODS, Method, register
from sns.method.adversarial import AdversarialOptions, perturbation
from sns.method.decay import DecayOptions
from sns.method.spectral import Spectral, SpectralOptions
from sns.model.ghost_norm import GhostBatchNorm2d


def full_step(options: Any, model: nn.Module, parts: int = 1) -> tuple[list[Tensor], Tensor | None]:
    x, y = batch()
    built = make(options, model)
    for px, py in zip(x.chunk(parts), y.chunk(parts), strict=True):
        built.backward(risk(model, py), px, len(py) / len(y))
    penalty = built.regularize()
    return gradients(model), penalty


def test_vanilla_is_the_mean_cross_entropy() -> None:
    model = network()
    reference = copy.deepcopy(model)
    x, y = batch()
    F.cross_entropy(reference(x), y).backward()
    actual, penalty = full_step(METHODS["vanilla"].Config(), model)
    assert penalty is None
    assert_close(actual, gradients(reference))


def test_backward_reports_sums() -> None:
    model = network()
    x, y = batch()
    shown = make(METHODS["vanilla"].Config(), model).backward(risk(model, y), x, 1.0)
    logits = model(x)
    assert_close(shown["loss"], F.cross_entropy(logits, y, reduction="sum").detach())
    assert shown["correct"] == (logits.argmax(1) == y).sum()


def test_decay_equals_sgds_own_weight_decay() -> None:
    """Three Nesterov steps, in which it matters that decay is added before momentum."""
    ours, theirs = network(), network()
    x, y = batch()
    decay = make(DecayOptions(factor=0.1), ours)
    a = torch.optim.SGD(ours.parameters(), 0.1, momentum=0.9, nesterov=True)
    b = torch.optim.SGD(theirs.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=0.1)
    for _ in range(3):
        for optimizer, model in ((a, ours), (b, theirs)):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            if model is ours:
                decay.regularize()
            optimizer.step()
    assert_close(list(ours.parameters()), list(theirs.parameters()))


def test_decay_of_weights_leaves_biases_and_batch_norm_alone() -> None:
    model = network()
    plain, _ = full_step(METHODS["vanilla"].Config(), copy.deepcopy(model))
    actual, penalty = full_step(DecayOptions(factor=0.1, scope="weights"), model)
    weights = {id(w) for w in weight_parameters(model)}
    for p, got, base in zip(model.parameters(), actual, plain, strict=True):
        assert_close(got, base + (0.1 * p.detach() if id(p) in weights else 0.0))
    expected = 0.05 * sum(w.square().sum() for w in weight_parameters(model))
    assert penalty is not None
    assert_close(penalty, expected.detach())


@pytest.mark.parametrize("options", [DecayOptions, SpectralOptions])
def test_scale_multiplies_lambda_and_with_it_the_stated_dose(options: Any) -> None:
    model, other = network(), network()
    scaled, penalty = full_step(options(factor=0.02, scale=5.0), model)
    plain, expected = full_step(options(factor=0.1), other)
    assert penalty is not None
    assert_close(scaled, plain)
    assert_close(penalty, expected)
    assert make(options(factor=0.02, scale=5.0), model).factor == pytest.approx(0.1)


@pytest.mark.parametrize(("alpha", "step"), [(0.5, "l2"), (0.25, "l2"), (1.0, "l2"), (0.0, "l2"), (0.5, "sign")])
def test_adversarial_equals_the_textbook_in_three_passes(alpha: float, step: str) -> None:
    ours, theirs = network(), network()
    x, y = batch()
    actual, _ = full_step(AdversarialOptions(alpha=alpha, epsilon=0.7, step=step), ours)

    probe = x.clone().requires_grad_(True)
    buffers = copy.deepcopy(theirs.state_dict())
    (g,) = torch.autograd.grad(F.cross_entropy(theirs(probe), y, reduction="sum"), probe)
    theirs.load_state_dict(buffers)
    eta = torch.stack([0.7 * row / row.norm() if step == "l2" else 0.7 * torch.sign(row) for row in g])
    (alpha * F.cross_entropy(theirs(x), y)).backward()
    moved = copy.deepcopy(theirs.state_dict())
    ((1 - alpha) * F.cross_entropy(theirs(x + eta), y)).backward()
    expected = [p.grad if p.grad is not None else torch.zeros_like(p) for p in theirs.parameters()]
    assert_close(actual, expected)
    for name, value in moved.items():  # running statistics: the clean pass only
        assert_close(ours.state_dict()[name], value)


def test_perturbation_has_length_epsilon_along_the_gradient() -> None:
    g = torch.randn(5, 2, 4, 4, dtype=torch.float64)
    g[3] = 0
    eta = perturbation(g, 2.5)
    norms = eta.flatten(1).norm(dim=1)
    assert_close(norms, torch.tensor([2.5, 2.5, 2.5, 0.0, 2.5], dtype=torch.float64))
    cosine = F.cosine_similarity(eta.flatten(1), g.flatten(1))
    assert_close(cosine[[0, 1, 2, 4]], torch.ones(4, dtype=torch.float64))


@pytest.mark.parametrize("scale", [1e-30, 1e-13, 1e20])
def test_perturbation_does_not_depend_on_the_gradients_scale(scale: float) -> None:
    """In fp32: the clean gradient has the factor alpha / B, and a confident image a tiny one."""
    g = torch.randn(3, 2, 4, 4)
    torch.testing.assert_close(perturbation(g * scale, 1.0), perturbation(g, 1.0), rtol=1e-5, atol=1e-6)


def test_perturbation_raises_the_loss() -> None:
    model = network().eval()
    x, y = batch()
    x.requires_grad_(True)
    loss = F.cross_entropy(model(x), y, reduction="none")
    (g,) = torch.autograd.grad(loss.sum(), x)
    moved = F.cross_entropy(model(x + perturbation(g, 0.01)), y, reduction="none")
    assert (moved > loss).all()


def test_spectral_adds_lambda_sigma_u_v_to_every_weight_and_nothing_else() -> None:
    """After many iterations it adds the gradient of lambda / 2 sigma^2, by autograd of the SVD."""
    model = network()
    plain, _ = full_step(METHODS["vanilla"].Config(), copy.deepcopy(model))
    options = SpectralOptions(factor=0.3, n_iterations=4000)
    with torch.no_grad():
        start = copy.deepcopy(model)
    actual, penalty = full_step(options, model)
    objective = 0.15 * sum(
        torch.linalg.matrix_norm(w.reshape(w.shape[0], -1), 2).square() for w in weight_parameters(start)
    )
    objective.backward()
    expected = [0 if p.grad is None else p.grad for p in start.parameters()]
    for got, base, extra in zip(actual, plain, expected, strict=True):
        assert_close(got, base + extra, rtol=1e-6, atol=1e-9)
    assert_close(penalty, objective.detach(), rtol=1e-9, atol=0)


def test_spectral_reshapes_kernels_output_channels_first() -> None:
    """Erratum 3: flattening the wrong axes gives another norm, so the penalty would not match."""
    model = nn.Sequential(nn.Conv2d(6, 12, 3), nn.Flatten(), nn.Linear(12, 2))
    built = methods.build(SpectralOptions(factor=2.0, n_iterations=3000), model, torch.Generator())
    built.backward(risk(model, torch.tensor([0, 1, 0, 1])), torch.randn(4, 6, 3, 3), 1.0)
    w, head = weight_parameters(model)
    right = torch.linalg.svdvals(w.reshape(12, -1))[0] ** 2 + torch.linalg.svdvals(head)[0] ** 2
    wrong = torch.linalg.svdvals(w.reshape(-1, 3))[0] ** 2 + torch.linalg.svdvals(head)[0] ** 2
    penalty = built.regularize()
    assert_close(penalty, right.detach())
    assert abs(penalty - wrong) > 0.1 * wrong  # type: ignore[operator]


def test_spectral_state_persists_and_is_restored() -> None:
    model = network().float()
    x, y = (t.float() if t.is_floating_point() else t for t in batch())
    first = methods.build(SpectralOptions(), model, torch.Generator().manual_seed(3))
    for built in (first,):
        built.backward(risk(built.model, y), x, 1.0)
        built.regularize()
    second = methods.build(SpectralOptions(), model, torch.Generator().manual_seed(99))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert_close(first.regularize(), second.regularize(), rtol=0, atol=0)
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


def test_spectral_in_padded_stacks_equals_one_by_one() -> None:
    """The form that a GPU runs, on the CPU."""

    def run(stacked: bool) -> tuple[list[Tensor], dict[str, Tensor]]:
        torch.manual_seed(5)
        model = nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 1), nn.Flatten(), nn.Linear(64, 4)
        )
        built = Spectral(SpectralOptions(n_iterations=2), model, torch.Generator())
        weights, draw = built.penalty.weights, torch.Generator().manual_seed(4)
        vectors = built.penalty.vectors = LeadingVectors(weights, draw, stacked=stacked)
        assert len(vectors.groups) == (3 if stacked else 4)
        for _ in range(3):
            model.zero_grad()
            built.backward(risk(built.model, torch.tensor([0, 1])), torch.ones(2, 2, 8, 8), 1.0)
            built.regularize()
        return gradients(model), built.state_dict()

    (g1, s1), (g2, s2) = run(False), run(True)
    assert_close(g1, g2)
    assert list(s1) == list(s2)
    assert_close(list(s1.values()), list(s2.values()))


@pytest.mark.parametrize("name", ["vanilla", "decay", "adversarial", "spectral"])
@pytest.mark.parametrize("parts", [2, 4])
def test_several_passes_give_the_gradient_of_one(name: str, parts: int) -> None:
    """Passes change neither statistics nor penalty nor data term, for ghost groups of 3 of 12."""

    def run(pieces: int) -> tuple[list[Tensor], Tensor | None, dict[str, Tensor]]:
        model = network()
        for module in model.modules():
            if isinstance(module, GhostBatchNorm2d):
                module.ghost = 3
        actual, penalty = full_step(METHODS[name].Config(name=name), model, pieces)
        return actual, penalty, model.state_dict()

    whole, pieces = run(1), run(parts)
    assert_close(pieces[0], whole[0])
    assert pieces[1] == whole[1]
    assert_close(pieces[2], whole[2])


def test_a_name_is_registered_once() -> None:
    class Other(Method):
        pass

    with pytest.raises(ValueError, match="already registered"):
        register("spectral")(Other)
