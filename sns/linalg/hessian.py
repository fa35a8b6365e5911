"""Hessian-vector products over minibatches, and the largest eigenvalue (section 4.3, Figure 3)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

EXACT = 10.0  # units in the last place of a residual that is rounding alone
# Each batch's summed loss, a scalar with its graph, computed when it is called.
BatchLosses = Sequence[Callable[[], Tensor]]


@dataclass(frozen=True)
class HessianResult:
    """The largest eigenvalue, in the algebraic sense, of the Hessian of a mean loss."""

    eigenvalue: float
    residual: float  # |Hv - eigenvalue v| / |eigenvalue| for the unit vector v it belongs to
    iterations: int  # Hessian-vector products
    converged: bool
    largest_magnitude: float  # eigenvalue of largest modulus; negative where the most curved direction bends down
    samples: int
    lanczos_eigenvalue: float | None = None
    lanczos_residual: float | None = None


class HessianProducts:
    """v (P,) -> H v (P,), H the Hessian of (sum of losses) / `samples` by `parameters`, P in all.

    Batches may differ in size: their products are summed and divided once. Graphs of gradients are
    kept from call to call, of as many batches as `room` bytes hold beside one more; those of the
    other batches are built again in every call, one at a time.
    """

    def __init__(self, losses: BatchLosses, parameters: Sequence[Tensor], samples: int, room: float = 0.0) -> None:
        self.losses, self.parameters, self.samples = losses, list(parameters), samples
        self.graphs: list[list[Tensor]] = []  # gradients, each with its graph
        if not losses:
            return
        first, size = self._measured(losses[0])
        count = len(losses) if len(losses) * size <= room else max(0, int(room // max(size, 1)) - 1)
        if len(losses) == 1 or count > 0:
            self.graphs = [first, *(self._gradients(loss) for loss in losses[1:count])]

    def __call__(self, vector: Tensor) -> Tensor:
        """H v. Neither needs grad mode nor leaves gradients."""
        directions = _like(vector, self.parameters)
        total = [torch.zeros_like(parameter) for parameter in self.parameters]
        for place, loss in enumerate(self.losses):
            kept = place < len(self.graphs)
            gradients = self.graphs[place] if kept else self._gradients(loss)
            curved = [i for i, gradient in enumerate(gradients) if gradient.requires_grad]
            if curved:  # else the loss is linear in every parameter
                part = torch.autograd.grad(
                    [gradients[i] for i in curved],
                    self.parameters,
                    [directions[i] for i in curved],
                    retain_graph=kept,
                    materialize_grads=True,
                )
                torch._foreach_add_(total, part)
            del gradients  # frees its graph before the next batch's is built
        return torch.cat([part.flatten() for part in total]) / self.samples

    def _gradients(self, loss: Callable[[], Tensor]) -> list[Tensor]:
        with torch.enable_grad():
            return list(torch.autograd.grad(loss(), self.parameters, create_graph=True, materialize_grads=True))

    def _measured(self, loss: Callable[[], Tensor]) -> tuple[list[Tensor], int]:
        """The gradients of a batch, and the bytes that their graph holds."""
        sizes: dict[int, int] = {}  # by address, so that a tensor saved twice counts once

        def count(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            gradients = self._gradients(loss)
        return gradients, sum(sizes.values())


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
    room: float = 0.0,
) -> HessianResult:
    """The largest eigenvalue of the Hessian of (sum of `losses`) / `samples`, by Lanczos iteration.

    It ends when the largest Ritz value moves by at most `tolerance`, relative, and its squared
    residual is at most `tolerance` too (its error is of second order in the residual), or after
    `iterations` products. `lanczos` adds scipy's `eigsh` on the same products, to a tenth of
    `tolerance`, as a check (None where it does not converge). Computed in the parameters' dtype;
    the start comes from `generator`. `room`: as in HessianProducts.
    """
    product = HessianProducts(losses, parameters, samples, room)
    size, like = sum(parameter.numel() for parameter in parameters), parameters[0]
    start = torch.randn(size, generator=generator, device=generator.device).to(like)
    check = _lanczos(product, start, tolerance / 10, iterations) if lanczos else (None, None)
    ritz = _iterate(product, start, tolerance, iterations)
    return HessianResult(ritz.value, ritz.residual, ritz.iterations, ritz.converged, ritz.modulus, samples, *check)


@dataclass(frozen=True)
class _Ritz:
    value: float  # the largest Ritz value
    modulus: float  # the Ritz value of largest modulus
    residual: float
    iterations: int
    converged: bool


def _iterate(product: Callable[[Tensor], Tensor], start: Tensor, tolerance: float, iterations: int) -> _Ritz:
    """Lanczos iteration (Golub & Van Loan, section 10.1) without a basis in memory.

    Rounding makes the vectors lose orthogonality, which repeats converged Ritz values and leaves
    the largest one right (Paige 1980).
    """
    diagonal, beside = list[float](), list[float]()
    before, vector, length = torch.zeros_like(start), start / start.norm(), start.new_zeros(())
    value, modulus, residual = math.inf, math.inf, math.inf
    for iteration in range(1, iterations + 1):
        image = product(vector)
        along = vector @ image
        image = image - along * vector - length * before
        length = image.norm()
        center, beta = torch.stack([along, length]).tolist()
        diagonal.append(center)
        if not math.isfinite(center + beta):
            return _Ritz(center, center, math.inf, iteration, False)
        last = value
        value, modulus, share = _largest(diagonal, beside)
        residual = beta * share / abs(value) if value != 0 else (0.0 if beta == 0 else math.inf)
        settled = abs(value - last) <= tolerance * abs(value) and residual**2 <= tolerance
        exact = residual <= EXACT * torch.finfo(start.dtype).eps  # what follows would be rounding alone
        if settled or exact:
            return _Ritz(value, modulus, residual, iteration, True)
        beside.append(beta)
        before, vector = vector, image / length
    return _Ritz(value, modulus, residual, iterations, False)


def _largest(diagonal: list[float], beside: list[float]) -> tuple[float, float, float]:
    """Of a symmetric tridiagonal matrix: the largest eigenvalue, that of largest modulus, and the
    modulus of the last entry of the former's unit eigenvector."""
    matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    off = torch.tensor(beside, dtype=torch.float64)
    matrix += torch.diag(off, 1) + torch.diag(off, -1)
    values, vectors = torch.linalg.eigh(matrix)
    modulus = values[values.abs().argmax()]
    return values[-1].item(), modulus.item(), vectors[-1, -1].abs().item()


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
