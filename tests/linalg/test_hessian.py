"""Hessian-vector products and the largest eigenvalue against explicit matrices in float64."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.testing import assert_close

from sns.linalg.hessian import BatchLosses, HessianProducts, HessianResult, top_eigenvalue

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
    def loss(start: int) -> Tensor:
        part = slice(start, start + size)
        return sign * F.cross_entropy(model(X[part]), Y[part], reduction="sum")

    return [partial(loss, start) for start in range(0, N, size)]


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

    def loss(share: float) -> Tensor:
        flat = torch.cat(parameters)
        return share * 0.5 * flat @ matrix @ flat

    return [partial(loss, share) for share in (0.25, 1.75)], parameters


def product(losses: BatchLosses, parameters: Sequence[Tensor], samples: int, vector: Tensor) -> Tensor:
    return HessianProducts(losses, parameters, samples)(vector)


def top(losses: BatchLosses, parameters: Sequence[Tensor], samples: int, **options: object) -> HessianResult:
    settings = {"tolerance": 1e-12, "iterations": 5000, "generator": torch.Generator().manual_seed(0)} | options
    return top_eigenvalue(losses, parameters, samples, **settings)


@pytest.mark.parametrize("size", [N, 5, 1])
def test_products_are_those_of_the_explicit_hessian(size: int) -> None:
    model = network()
    hessian, parameters = explicit_hessian(model), list(model.parameters())
    for seed in range(3):
        vector = draw(len(hessian), seed=seed)
        image = product(batched(model, size), parameters, N, vector)
        assert_close(image, hessian @ vector, rtol=1e-10, atol=1e-10)


def test_products_work_inside_no_grad_and_leave_no_gradients() -> None:
    model = network()
    vector = draw(len(explicit_hessian(model)))
    expected = product(batched(model, N), list(model.parameters()), N, vector)
    with torch.no_grad():
        image = product(batched(model, N), list(model.parameters()), N, vector)
    assert torch.equal(image, expected)
    assert not image.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())


def test_graphs_are_kept_as_far_as_there_is_room() -> None:
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

    losses = [lambda: Tracked.apply(weight).sum()] * 4
    assert_close(product(losses, [weight], 4, draw(3, seed=1)), 2 * draw(3, seed=1))
    assert most[0] == 1
    _, size = HessianProducts(losses, [weight], 4)._measured(losses[0])
    for room, expected in ((2 * size, 1), (3 * size, 2), (100 * size, 4)):
        kept = HessianProducts(losses, [weight], 4, room)
        assert len(kept.graphs) == expected, room
        assert_close(kept(draw(3, seed=1)), 2 * draw(3, seed=1))
        del kept


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


def test_graphs_that_are_kept_are_built_once_and_give_the_same() -> None:
    losses, parameters = quadratic((5.0, 1.0, 0.5))
    calls = [0]

    def counted(loss: Callable[[], Tensor]) -> Tensor:
        calls[0] += 1
        return loss()

    counting = [partial(counted, loss) for loss in losses]
    again = top(counting, parameters, 2)
    assert calls[0] == 2 * again.iterations + 1  # once more to measure the first graph
    calls[0] = 0
    kept = top(counting, parameters, 2, room=1e9)
    assert calls[0] == 2
    assert kept == again


def test_fewer_products_than_power_iteration() -> None:
    """Eigenvalues 1 and .9: power iteration gains a factor of .81 a product, Lanczos far more."""
    rest = [0.9 * (1 - i / 40) for i in range(40)]
    losses, parameters = quadratic([1.0, *rest])
    result = top(losses, parameters, 2, tolerance=1e-4)
    assert result.converged
    assert_close(result.eigenvalue, 1.0, rtol=1e-4, atol=0)
    assert result.iterations <= 20


def test_cap_on_iterations_is_reported() -> None:
    losses, parameters = quadratic((3.0, 2.999, 1.0, 0.5))
    result = top(losses, parameters, 2, iterations=2)
    assert (result.converged, result.iterations) == (False, 2)
    assert result.residual > 1e-6


def test_residual_is_that_of_the_reported_eigenvalue() -> None:
    """After one product from a known start: |Hv - (v'Hv) v| / |v'Hv|."""
    eigenvalues = (6.0, 2.0, 1.0)
    losses, parameters = quadratic(eigenvalues)
    result = top(losses, parameters, 2, iterations=1)
    vector = torch.randn(3, generator=torch.Generator().manual_seed(0)).double()
    vector /= vector.norm()
    image = product(losses, parameters, 2, vector)
    assert_close(result.eigenvalue, (vector @ image).item())
    assert_close(result.residual, ((image - (vector @ image) * vector).norm() / (vector @ image)).item())


def test_flat_and_broken_losses() -> None:
    weight = nn.Parameter(draw(4))
    result = top([lambda: weight.sum()], [weight], 1)
    assert (result.eigenvalue, result.residual, result.converged) == (0.0, 0.0, True)
    broken = top([lambda: (weight * math.nan).square().sum()], [weight], 1)
    assert math.isnan(broken.eigenvalue)
    assert not broken.converged


def test_float32_agrees_with_float64() -> None:
    model = network()
    expected = top(batched(model, 4), list(model.parameters()), N, tolerance=1e-6).eigenvalue
    single = network().float()
    data = X.float()
    losses = [lambda: F.cross_entropy(single(data), Y, reduction="sum")]
    result = top(losses, list(single.parameters()), N, tolerance=1e-5, lanczos=True)
    assert_close(result.eigenvalue, expected, rtol=1e-4, atol=0)
    assert_close(result.lanczos_eigenvalue, expected, rtol=1e-4, atol=0)
