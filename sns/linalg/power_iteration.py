"""Power iteration for the largest singular value (section 3.2, Algorithm 1 corrected).

The printed algorithm does not normalise u and v, and divides |u| by |v| after v <- W^T u; that
ratio tends to 1 / sigma_1. Here both are unit vectors and sigma = u^T W v.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

TINY = 1e-12  # avoids a division by zero for the zero matrix


def _unit(x: Tensor) -> Tensor:
    norm: Tensor = x.norm(dim=-1, keepdim=True)
    return x / norm.clamp_min(TINY)


def power_iteration(weight: Tensor, v: Tensor, n_iterations: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """(sigma, u, v) after `n_iterations` of u <- Wv / |Wv|, v <- W^T u / |W^T u|, from `v`.

    Shapes, with any leading batch dimensions: weight (..., m, n), v (..., n) of norm 1, u (..., m)
    and sigma (...). sigma = u^T W v is a lower bound of the largest singular value. ValueError if
    n_iterations < 1.
    """
    if n_iterations < 1:
        raise ValueError(f"n_iterations={n_iterations} must be at least 1")
    transposed = weight.mT
    for _ in range(n_iterations):
        u = _unit((weight @ v.unsqueeze(-1)).squeeze(-1))
        image = (transposed @ u.unsqueeze(-1)).squeeze(-1)
        sigma = image.norm(dim=-1)  # u^T W v for the v that follows
        v = image / sigma.clamp_min(TINY).unsqueeze(-1)
    return sigma, u, v


def literal_algorithm_1(weight: Tensor, v: Tensor, n_iterations: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """(sigma, u, v) of Algorithm 1 as printed, to show that it must be corrected."""
    for _ in range(n_iterations):
        u = weight @ v
        v = weight.mT @ u
        sigma = u.norm() / v.norm()
    return sigma, u, v


def random_unit_vectors(lengths: Sequence[int], generator: torch.Generator) -> list[Tensor]:
    """Gaussian directions (Algorithm 1, line 2), one of each length, on the generator's device."""
    return [_unit(torch.randn(n, generator=generator, device=generator.device)) for n in lengths]


class PaddedStack:
    """Matrices of equal row count, padded with zero columns to one (L, m, n_max) tensor.

    One kernel then serves all of them. Zero columns change neither singular values nor the other
    entries of v. Grouping by exact shape would not help DenseNet, where the convolutions of a block
    all differ in width.
    """

    def __init__(self, shapes: Sequence[tuple[int, int]], like: Tensor) -> None:
        self.columns = [n for _, n in shapes]
        self.stack = like.new_zeros(len(shapes), shapes[0][0], max(self.columns))
        self.parts = [self.stack[i, :, :n] for i, n in enumerate(self.columns)]

    def fill(self, matrices: Sequence[Tensor]) -> Tensor:
        """Copies the matrices in and returns the (L, m, n_max) stack."""
        torch._foreach_copy_(self.parts, list(matrices))
        return self.stack


def group_by_rows(shapes: Sequence[tuple[int, int]], waste: float = 2.0, largest: int = 1 << 18) -> list[list[int]]:
    """Indices of matrices to be stacked: equal row counts, and little padding.

    A matrix is padded to at most `waste` times its own columns. One of more than `largest` entries
    stays alone: it loads a GPU by itself, and to copy it would cost more than a kernel launch.
    """
    groups: list[list[int]] = []
    for index in sorted(range(len(shapes)), key=lambda i: (shapes[i][0], -shapes[i][1])):
        rows, columns = shapes[index]
        widest = shapes[groups[-1][0]] if groups else (0, 0)
        if groups and widest[0] == rows and widest[1] <= waste * columns and rows * widest[1] <= largest:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups
