"""The penalty as public code has it: against dense references, and what each adds to a network."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from sns import method as methods
from sns.common.errors import ConfigError
from sns.linalg import errata
from sns.linalg.power_iteration import power_iteration
from sns.linalg.published import blog_1, blog_2, gouk, lmt
from sns.linalg.weights import weight_parameters
from sns.method import Method
from sns.method.published import ALGORITHMS, GoukPenalty
from sns.method.spectral import SpectralNormPenalty, SpectralOptions
from sns.method.spectral_operator import SpectralOperatorOptions

LAMBDA = 0.3


def norm(w: Tensor) -> Tensor:
    return torch.linalg.matrix_norm(w.flatten(1), 2)


def blogs_norm(w: Tensor) -> Tensor:
    return torch.linalg.matrix_norm(w.reshape(-1, w.shape[-1]), 2)


EXACT = {  # what each penalty tends to with many iterations
    "printed": lambda w: LAMBDA / 3 * norm(w) ** 3,
    "unsquared": lambda w: LAMBDA / 2 * norm(w),
    "gouk": lambda w: LAMBDA * norm(w) ** 2,
    "blog_1": lambda w: LAMBDA * blogs_norm(w) ** 2,
    "blog_2": lambda w: LAMBDA * blogs_norm(w),
}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.Conv2d(4, 5, (3, 2)), nn.Flatten(), nn.Linear(5, 3)).double()


def make(options: Any, model: nn.Module) -> Method:
    return methods.build(options, model, torch.Generator().manual_seed(2))


def gradients(model: nn.Module) -> list[Tensor | None]:
    return [p.grad for p in model.parameters()]


def added(options: Any, model: nn.Module) -> tuple[list[Tensor], Tensor]:
    """What the penalty adds to the gradient of each weight, and its value."""
    penalty = make(options, model).regularize()
    assert penalty is not None
    return [w.grad for w in weight_parameters(model) if w.grad is not None], penalty


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("algorithm", EXACT)
def test_many_iterations_add_the_gradient_of_the_stated_penalty(algorithm: str, channels_last: bool) -> None:
    model = network()
    for weight in weight_parameters(model):  # so that nothing overflows where nothing is normalised
        weight.data *= 1.1 / norm(weight.data)
    exact = copy.deepcopy(model)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    n = 300 if algorithm == "gouk" else 3000
    actual, penalty = added(SpectralOptions(factor=LAMBDA, n_iterations=n, algorithm=algorithm), model)
    objective = torch.stack([EXACT[algorithm](w) for w in weight_parameters(exact)]).sum()
    objective.backward()
    assert_close(penalty, objective.detach(), rtol=1e-6, atol=0)
    assert_close(actual, [w.grad for w in weight_parameters(exact)], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_added_to_the_loss_it_has_the_same_gradient(algorithm: str) -> None:
    one, other = network(), network()
    value = ALGORITHMS[algorithm](one, LAMBDA, n_iterations=2)()
    value.backward()
    assert_close(ALGORITHMS[algorithm](other, LAMBDA, n_iterations=2).add_gradient_(), value.detach())
    assert_close(gradients(one), gradients(other))


def test_few_iterations_are_differentiated_too() -> None:
    """Unlike the paper's gradient, in which u and v are constants."""
    kernel, start = errata.gaussian((4, 3, 2, 2)).requires_grad_(), torch.ones(4, dtype=torch.float64)
    for form in (lambda w: gouk(w, start, 2), lambda w: blog_1(w, 2), lambda w: blog_2(w, 2)):
        assert torch.autograd.gradcheck(form, (kernel,))
    value, w = gouk(kernel, start, 2), kernel.detach().flatten(1)
    _, _, x = power_iteration(w.mT, start / 2, 2)
    assert_close(value.detach(), (x @ w).square().sum())
    (through,) = torch.autograd.grad(value, kernel)
    assert (through.flatten(1) - 2 * torch.outer(x, x @ w)).norm() > 0.05 * through.norm()


def test_the_start_of_gouk_persists_and_the_paper_s_goes_on() -> None:
    model = network()
    penalty, paper = GoukPenalty(model, LAMBDA, n_iterations=2), SpectralNormPenalty(model, LAMBDA)
    assert penalty.add_gradient_() == penalty.add_gradient_()
    assert paper.add_gradient_() != paper.add_gradient_()
    other = GoukPenalty(model, LAMBDA, n_iterations=2, generator=torch.Generator().manual_seed(5))
    assert other.add_gradient_() != penalty.add_gradient_()
    other.load_state_dict(penalty.state_dict())
    assert other.add_gradient_() == penalty.add_gradient_()


def test_lmt_adds_sigma_squared_and_the_option_does_so() -> None:
    w, x = errata.gaussian((6, 9)), torch.rand(6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    for _ in range(800):
        addition, x = lmt(w, x)
    model = nn.Linear(9, 6, bias=False).double()
    model.weight.data.copy_(w)
    ALGORITHMS["printed"](model, 1.0, n_iterations=800).add_gradient_()
    assert_close(model.weight.grad, addition, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("sigma_1", [1.3, 0.67])
def test_public_code_against_the_paper_s_gradient(sigma_1: float) -> None:
    rows = errata.public_gradients(sigma_1)
    settled = {"this repository": 1.0, "ytsmiling/lmt": sigma_1, "msakarvadia/memorization": 0.5 / sigma_1}
    for name, size in settled.items():
        assert rows[name].size == pytest.approx(size, rel=1e-3)
        assert rows[name].cosine > 0.999
    assert all(row.cosine < 0.5 for name, row in rows.items() if name not in settled)


def test_lambda_instead_of_its_half_doubles_gradient_penalty_and_dose() -> None:
    double, value = added(SpectralOptions(factor=LAMBDA, half=False), network())
    plain, expected = added(SpectralOptions(factor=LAMBDA), network())
    assert_close(double, [2 * extra for extra in plain])
    assert_close(value, 2 * expected)
    assert make(SpectralOptions(factor=LAMBDA, half=False), network()).factor == pytest.approx(2 * LAMBDA)
    assert make(SpectralOptions(algorithm="gouk"), network()).factor is None


def test_fresh_vectors_are_drawn_at_every_update_from_a_state() -> None:
    """The sigma of each of four updates is that of an iteration from the generator's next v."""
    model = nn.Linear(9, 6, bias=False).double()
    penalty = SpectralNormPenalty(model, 2.0, fresh=True, n_iterations=2)
    assert penalty.fresh is not None
    draw = torch.Generator()
    draw.set_state(penalty.fresh.get_state())
    values = [penalty.add_gradient_() for _ in range(4)]
    assert len(set(values)) == 4
    for value in values:
        sigma, _, _ = power_iteration(model.weight.data, torch.randn(9, generator=draw, dtype=torch.float64), 2)
        assert_close(value, sigma.square())
    other = SpectralNormPenalty(model, 2.0, fresh=True, n_iterations=2, generator=torch.Generator().manual_seed(7))
    other.load_state_dict(penalty.state_dict())
    assert other.add_gradient_() == penalty.add_gradient_()
    model.eval()
    assert penalty() == penalty()


def test_fresh_vectors_do_not_depend_on_the_memory_format() -> None:
    last = network().to(memory_format=torch.channels_last)
    assert not last[0].weight.is_contiguous()
    options = SpectralOptions(factor=LAMBDA, fresh=True)
    ours, theirs = added(options, last), added(options, network())
    assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"algorithm": "typo"}, "method.algorithm=typo is unknown; choose one of corrected, printed"),
        ({"algorithm": "gouk", "half": False}, "method.half is defined for method.algorithm=corrected only"),
        ({"algorithm": "printed", "fresh": True}, "method.fresh is defined for"),
        ({"algorithm": "blog_1", "dose": 1.0}, "method.dose is defined for"),
        ({"algorithm": "blog_2", "target_sigma": 1.0}, "method.target_sigma is defined for"),
        ({"dose": 1.0, "half": False}, "needs method.half=true"),
        ({"dose": 1.0, "target_sigma": 1.0}, "cannot have a method.dose"),
        ({"target_sigma": 0.0}, "method.target_sigma=0.0 must be positive"),
        ({"target_sigma": 1.0, "factor": 0.0}, "method.factor, which must be positive"),
    ],
)
def test_options_that_exclude_each_other_are_one_sentence(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says.replace(".", r"\.")):
        SpectralOptions(**options)


def test_operators_have_the_corrected_algorithm_only() -> None:
    with pytest.raises(ConfigError, match=r"method\.algorithm=gouk needs method=spectral"):
        SpectralOperatorOptions(algorithm="gouk")
