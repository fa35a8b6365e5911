"""Hessian-vector products and the largest eigenvalue against explicit matrices in float64."""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.testing import assert_close

from sns.linalg.hessian import BatchLosses, HessianResult, hessian_vector_product, top_eigenvalue

N = 23


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network() -> nn.Module:
    """Convolution, batch norm with unusual running statistics, max pool, linear: 67 parameters."""
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(12, 2, False),
    ).double()
    for seed, tensor in enumerate([*model.parameters(), model[1].running_mean]):
        tensor.data = 0.7 * draw(*tensor.shape, seed=seed)
    model[1].running_var.fill_(0.5)
    return model.eval()


X, Y = draw(N, 1, 4, 4, seed=9), torch.arange(N) % 2


def batched(model: nn.Module, size: int, sign: float = 1.0) -> BatchLosses:
    def losses() -> Iterator[Tensor]:
        for start in range(0, N, size):
            part = slice(start, start + size)
            yield sign * F.cross_entropy(model(X[part]), Y[part], reduction="sum")

    return losses


def explicit_hessian(model: nn.Module) -> Tensor:
    """All second derivatives of the mean loss over all images, by torch.autograd.functional."""
    names, shapes = zip(*((name, p.shape) for name, p in model.named_parameters()), strict=True)

    def loss(flat: Tensor) -> Tensor:
        parts = flat.split([shape.numel() for shape in shapes])
        values = {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
        return F.cross_entropy(functional_call(model, values, (X,)), Y)

    flat = torch.cat([p.detach().flatten() for p in model.parameters()])
    return torch.autograd.functional.hessian(loss, flat)


def quadratic(eigenvalues: Sequence[float]) -> tuple[BatchLosses, list[Tensor]]:
    """A loss with this Hessian spectrum in a random basis: two unequal batches, two parameters."""
    n = len(eigenvalues)
    basis = torch.linalg.qr(draw(n, n)).Q
    matrix = basis @ torch.diag(torch.tensor(eigenvalues, dtype=torch.float64)) @ basis.mT
    parameters = [draw(2, seed=1).requires_grad_(), draw(n - 2, seed=2).requires_grad_()]

    def losses() -> Iterator[Tensor]:
        flat = torch.cat(parameters)
        for share in (0.25, 1.75):
            yield share * 0.5 * flat @ matrix @ flat

    return losses, parameters


def top(losses: BatchLosses, parameters: Sequence[Tensor], samples: int, **options: object) -> HessianResult:
    settings = {"tolerance": 1e-12, "iterations": 5000, "generator": torch.Generator().manual_seed(0)} | options
    return top_eigenvalue(losses, parameters, samples, **settings)


@pytest.mark.parametrize("size", [N, 5, 1])
def test_products_are_those_of_the_explicit_hessian(size: int) -> None:
    model = network()
    hessian, parameters = explicit_hessian(model), list(model.parameters())
    for seed in range(3):
        vector = draw(len(hessian), seed=seed)
        product = hessian_vector_product(batched(model, size), parameters, N, vector)
        assert_close(product, hessian @ vector, rtol=1e-10, atol=1e-10)


def test_products_work_inside_no_grad_and_leave_no_gradients() -> None:
    model = network()
    vector = draw(len(explicit_hessian(model)))
    expected = hessian_vector_product(batched(model, N), list(model.parameters()), N, vector)
    with torch.no_grad():
        product = hessian_vector_product(batched(model, N), list(model.parameters()), N, vector)
    assert torch.equal(product, expected)
    assert not product.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())


def test_one_batch_graph_is_in_memory_at_a_time() -> None:
    weight, alive, most = nn.Parameter(draw(3)), [0], [0]

    class Tracked(torch.autograd.Function):
        """Squares; counts the graphs that hold it."""

        @staticmethod
        def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
            alive[0] += 1
            most[0] = max(most[0], alive[0])
            ctx.token = Token()
            ctx.save_for_backward(x)
            return x.square()

        @staticmethod
        def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
            return 2 * ctx.saved_tensors[0] * grad

    class Token:
        def __del__(self) -> None:
            alive[0] -= 1

    def losses() -> Iterator[Tensor]:
        for _ in range(4):
            yield Tracked.apply(weight).sum()

    assert_close(hessian_vector_product(losses, [weight], 4, draw(3, seed=1)), 2 * draw(3, seed=1))
    assert most[0] == 1


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_largest_eigenvalue_of_a_network_is_numpys(sign: float) -> None:
    """With sign -1 the eigenvalue of largest modulus is negative, and the largest one small."""
    model = network()
    spectrum = np.linalg.eigvalsh(sign * explicit_hessian(model).numpy())
    result = top(batched(model, 15, sign), list(model.parameters()), N, lanczos=True)
    assert spectrum[0] < 0 < spectrum[-1]
    assert result.converged
    assert result.samples == N
    assert_close(result.eigenvalue, spectrum[-1], rtol=1e-8, atol=0)
    assert_close(result.largest_magnitude, spectrum[np.abs(spectrum).argmax()], rtol=1e-8, atol=0)
    assert math.copysign(1, result.largest_magnitude) == sign
    assert_close(result.lanczos_eigenvalue, spectrum[-1], rtol=1e-8, atol=0)
    assert result.residual < 1e-5
    assert result.lanczos_residual < 1e-5


@pytest.mark.parametrize(
    "eigenvalues",
    [
        (3.0, 1.0, 0.5, 0.0),
        (-5.0, 3.0, 1.0, 0.0),
        (4.0, -4.0, 1.0, 0.5),  # in a tie the quotient settles anywhere between the two,
        (-4.0, 4.0, 1.0, 0.5),  # here above 0, there below
        (2.0, -2.0000001, 1.0),
        (-1.0, -2.0, -3.0),
    ],
)
def test_largest_algebraic_eigenvalue_for_any_signs(eigenvalues: tuple[float, ...]) -> None:
    losses, parameters = quadratic(eigenvalues)
    result = top(losses, parameters, 2, iterations=200)
    assert result.converged
    assert_close(result.eigenvalue, max(eigenvalues), rtol=1e-9, atol=0)


def test_iterations_count_both_passes() -> None:
    one, two = (top(*quadratic(values), 2) for values in ((5.0, 1.0, 0.5), (-5.0, 1.0, 0.5)))
    calls = [0]
    losses, parameters = quadratic((-5.0, 1.0, 0.5))

    def counted() -> Iterator[Tensor]:
        calls[0] += 1
        return iter(losses())

    looks = 1  # at how many batches there are
    assert top(counted, parameters, 2).iterations == two.iterations == calls[0] - looks
    assert one.iterations < two.iterations


def test_one_batch_is_passed_once_and_gives_what_two_give() -> None:
    losses, parameters = quadratic((5.0, 1.0, 0.5))
    calls = [0]

    def together() -> Iterator[Tensor]:
        calls[0] += 1
        yield torch.stack(list(losses())).sum()

    one, two = top(together, parameters, 2), top(losses, parameters, 2)
    assert calls[0] == 1
    assert one.iterations == two.iterations
    assert_close(torch.tensor(one.eigenvalue), torch.tensor(two.eigenvalue), rtol=1e-12, atol=0)


def test_cap_on_iterations_is_reported() -> None:
    losses, parameters = quadratic((3.0, 2.999, 1.0, 0.5))
    result = top(losses, parameters, 2, iterations=4)
    assert (result.converged, result.iterations) == (False, 4)
    assert result.residual > 1e-6


@pytest.mark.parametrize("t", [0.15, 0.7])
def test_a_stalled_quotient_between_two_eigenvalues_has_not_converged(t: float) -> None:
    """It stays at 3 cos 2t for eigenvalues 3 and -3; only the residual shows that it is none."""
    start = torch.randn(3, generator=torch.Generator().manual_seed(0)).double()
    basis = torch.linalg.qr(torch.cat([start[:, None], draw(3, 2)], dim=1)).Q
    angle = torch.tensor(t, dtype=torch.float64)
    plus = angle.cos() * basis[:, 0] + angle.sin() * basis[:, 1]
    minus = angle.sin() * basis[:, 0] - angle.cos() * basis[:, 1]
    matrix = 3 * (plus.outer(plus) - minus.outer(minus))
    weight = nn.Parameter(draw(3))
    result = top(lambda: [0.5 * weight @ matrix @ weight], [weight], 1, tolerance=1e-3, iterations=20)
    assert_close(result.largest_magnitude, 3 * (2 * angle).cos().item(), rtol=1e-6, atol=0)
    assert_close(result.eigenvalue, 3.0, rtol=1e-6, atol=0)
    assert result.converged
    capped = top(lambda: [0.5 * weight @ matrix @ weight], [weight], 1, tolerance=1e-3, iterations=5)
    assert not capped.converged
    assert_close(capped.residual, (2 * angle).tan().item(), rtol=1e-6, atol=0)


def test_residual_is_that_of_the_reported_eigenvalue() -> None:
    """After one product from a known start: |Hv - (v'Hv) v| / |v'Hv|."""
    eigenvalues = (6.0, 2.0, 1.0)
    losses, parameters = quadratic(eigenvalues)
    result = top(losses, parameters, 2, iterations=1)
    vector = torch.randn(3, generator=torch.Generator().manual_seed(0)).double()
    vector /= vector.norm()
    image = hessian_vector_product(losses, parameters, 2, vector)
    assert_close(result.eigenvalue, (vector @ image).item())
    assert_close(result.residual, ((image - (vector @ image) * vector).norm() / (vector @ image)).item())


def test_flat_and_broken_losses() -> None:
    weight = nn.Parameter(draw(4))
    flat: Callable[[], list[Tensor]] = lambda: [weight.sum()]  # noqa: E731
    result = top(flat, [weight], 1)
    assert (result.eigenvalue, result.residual, result.converged) == (0.0, 0.0, True)
    broken = top(lambda: [(weight * math.nan).square().sum()], [weight], 1)
    assert math.isnan(broken.eigenvalue)
    assert not broken.converged


def test_float32_agrees_with_float64() -> None:
    model = network()
    expected = top(batched(model, 4), list(model.parameters()), N, tolerance=1e-6).eigenvalue
    single = network().float()
    data = X.float()
    losses = lambda: [F.cross_entropy(single(data), Y, reduction="sum")]  # noqa: E731
    result = top(losses, list(single.parameters()), N, tolerance=1e-5, lanczos=True)
    assert_close(result.eigenvalue, expected, rtol=1e-4, atol=0)
    assert_close(result.lanczos_eigenvalue, expected, rtol=1e-4, atol=0)
