"""Hessian-vector products over minibatches, and the largest eigenvalue (section 4.3, Figure 3)."""

import math
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# A new pass over the data: each batch's summed loss, a scalar with its graph.
BatchLosses = Callable[[], Iterable[Tensor]]
SETTLING = 10  # products after which a stalled quotient is final, not an accident of the start


@dataclass(frozen=True)
class HessianResult:
    """The largest eigenvalue, in the algebraic sense, of the Hessian of a mean loss."""

    eigenvalue: float
    residual: float  # |Hv - eigenvalue v| / |eigenvalue| for the unit vector v it belongs to
    iterations: int  # Hessian-vector products, of both passes where two were needed
    converged: bool
    largest_magnitude: float  # eigenvalue of largest modulus; negative where the most curved direction bends down
    samples: int
    lanczos_eigenvalue: float | None = None
    lanczos_residual: float | None = None


def hessian_vector_product(losses: BatchLosses, parameters: Sequence[Tensor], samples: int, vector: Tensor) -> Tensor:
    """H v (P,) for the Hessian H of (sum of `losses()`) / `samples` w.r.t. `parameters`, P in all.

    Batches may differ in size: their products are summed and divided once. Only one batch's graph
    is in memory at a time.
    """
    directions = _like(vector, parameters)
    total = [torch.zeros_like(parameter) for parameter in parameters]
    for loss in _with_graph(losses):
        torch._foreach_add_(total, _batch_product(loss, parameters, directions))
        del loss  # frees its graph before the next batch's is built
    return torch.cat([part.flatten() for part in total]) / samples


def _products(losses: BatchLosses, parameters: Sequence[Tensor], samples: int) -> Callable[[Tensor], Tensor]:
    """v -> H v, for repeated use.

    Where all data are one batch, its graph is built once and reused.
    """
    batches = _with_graph(losses)
    loss, more = next(batches, None), next(batches, None) is not None
    batches.close()
    if loss is None or more:
        return lambda vector: hessian_vector_product(losses, parameters, samples, vector)
    with torch.enable_grad():
        gradients = torch.autograd.grad(loss, parameters, create_graph=True, materialize_grads=True)
    curved = [i for i, gradient in enumerate(gradients) if gradient.requires_grad]

    def product(vector: Tensor) -> Tensor:
        directions = _like(vector, parameters)
        if not curved:  # a loss linear in every parameter
            return torch.zeros_like(vector)
        parts = torch.autograd.grad(
            [gradients[i] for i in curved],
            parameters,
            [directions[i] for i in curved],
            retain_graph=True,
            materialize_grads=True,
        )
        return torch.cat([part.flatten() for part in parts]) / samples

    return product


def _with_graph(losses: BatchLosses) -> Generator[Tensor]:
    with torch.enable_grad():
        yield from losses()


def _batch_product(loss: Tensor, parameters: Sequence[Tensor], directions: Sequence[Tensor]) -> list[Tensor]:
    with torch.enable_grad():
        gradients = torch.autograd.grad(loss, parameters, create_graph=True, materialize_grads=True)
        slope = torch.stack([(g * d).sum() for g, d in zip(gradients, directions, strict=True)]).sum()
    if not slope.requires_grad:  # a loss linear in every parameter
        return [torch.zeros_like(parameter) for parameter in parameters]
    return list(torch.autograd.grad(slope, parameters, materialize_grads=True))


def _like(vector: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    parts = torch.split(vector, [parameter.numel() for parameter in parameters])
    return [part.view(parameter.shape) for part, parameter in zip(parts, parameters, strict=True)]


def top_eigenvalue(
    losses: BatchLosses,
    parameters: Sequence[Tensor],
    samples: int,
    *,
    tolerance: float,
    iterations: int,
    generator: torch.Generator,
    lanczos: bool = False,
) -> HessianResult:
    """The largest eigenvalue of the Hessian of (sum of `losses()`) / `samples`, by power iteration.

    Power iteration converges to the eigenvalue of largest modulus. A pass ends when the Rayleigh
    quotient moves by at most `tolerance`, relative, and the squared residual is at most `tolerance`
    too (the quotient's error is of second order in the residual), or after `iterations` products.
    If the quotient stalls at a larger residual, the vector is a mixture of two eigenvectors whose
    eigenvalues differ mainly in sign.

    In that case, and where the eigenvalue is negative, a second pass on H + s I, s the modulus,
    converges to the largest algebraic eigenvalue. `lanczos` adds scipy's `eigsh` on the same
    products, to a tenth of `tolerance`, as a check (None where it does not converge). Computed in
    the parameters' dtype; the start comes from `generator`.
    """

    product = _products(losses, parameters, samples)
    size, like = sum(parameter.numel() for parameter in parameters), parameters[0]
    start = torch.randn(size, generator=generator, device=generator.device).to(like)
    first = _power_iteration(product, start, 0.0, tolerance, iterations)
    best, used = first, first.iterations
    if first.value < 0 or first.stalled:
        best = _power_iteration(product, start, first.modulus, tolerance, iterations)
        used += best.iterations
    check = _lanczos(product, start, tolerance / 10, iterations) if lanczos else (None, None)
    return HessianResult(best.value, best.residual, used, best.converged, first.value, samples, *check)


@dataclass(frozen=True)
class _Pass:
    value: float  # Rayleigh quotient of H
    modulus: float  # |Hv|, which for a mixture of two eigenvectors of opposite sign is not |value|
    residual: float
    iterations: int
    converged: bool
    stalled: bool = False  # the quotient does not move, but is no eigenvalue


def _power_iteration(
    product: Callable[[Tensor], Tensor], start: Tensor, shift: float, tolerance: float, iterations: int
) -> _Pass:
    """Power iteration on H + shift I; the results are those of H."""
    vector, value, modulus, residual = start / start.norm(), math.inf, 0.0, math.inf
    for iteration in range(1, iterations + 1):
        last, image = value, product(vector)
        quotient = vector @ image
        value, modulus, error = torch.stack([quotient, image.norm(), (image - quotient * vector).norm()]).tolist()
        if modulus == 0:  # the start is in the null space: in practice, H is zero
            return _Pass(0.0, 0.0, 0.0, iteration, True)
        residual = error / abs(value) if value != 0 else math.inf
        if abs(value - last) <= tolerance * abs(value) and (residual**2 <= tolerance or iteration >= SETTLING):
            converged = residual**2 <= tolerance
            return _Pass(value, modulus, residual, iteration, converged, not converged)
        if not math.isfinite(modulus):
            break
        image.add_(vector, alpha=shift)
        vector = image / image.norm()
    return _Pass(value, modulus, residual, iteration, False)


def _lanczos(
    product: Callable[[Tensor], Tensor], start: Tensor, tolerance: float, iterations: int
) -> tuple[float | None, float | None]:
    """Largest algebraic eigenvalue and relative residual by scipy; None, None if not converged."""
    import numpy as np  # here: only the check needs it, and scipy
    from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

    def matvec(vector: "npt.NDArray[np.floating]") -> "npt.NDArray[np.floating]":
        image: npt.NDArray[np.floating] = product(torch.from_numpy(vector.copy()).to(start)).cpu().numpy()
        return image

    first = start.cpu().numpy()
    operator = LinearOperator((first.size, first.size), matvec=matvec, dtype=first.dtype)
    try:
        values, vectors = eigsh(operator, k=1, which="LA", v0=first, tol=tolerance, maxiter=iterations)
    except ArpackError:
        return None, None
    value, vector = float(values[0]), vectors[:, 0]
    return value, float(np.linalg.norm(matvec(vector) - value * vector)) / abs(value)
