"""Functions of singular values by matrix products, against the decomposition."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from sns.linalg import caps

SPECTRA = 40  # matrices in a batch


def factors(m: int = 24, n: int = 40) -> tuple[Tensor, Tensor]:
    """Orthonormal u (L, m, m) and v (L, m, n)."""
    draw = torch.Generator().manual_seed(0)
    u, v = (torch.randn(SPECTRA, size, m, generator=draw, dtype=torch.float64) for size in (m, n))
    return torch.linalg.qr(u)[0], torch.linalg.qr(v)[0].mT


def spectra(largest: float, m: int = 24) -> Tensor:
    """Singular values (L, m), together an even grid of [0, largest]. Each matrix spans it."""
    return torch.linspace(0, largest, SPECTRA * m, dtype=torch.float64).view(m, SPECTRA).T


def error(largest: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The spectral norm of the error of the hard cap (L,), and the largest singular values (L,)."""
    u, v = factors()
    s = spectra(largest)
    w = ((u * s.unsqueeze(1)) @ v).to(dtype)
    actual = (caps.hard_cap(w @ w.mT) @ w).double()
    wanted = (u * s.clamp_max(1).unsqueeze(1)) @ v
    return torch.linalg.matrix_norm(actual - wanted, 2), torch.linalg.matrix_norm(actual, 2)


@pytest.mark.parametrize("largest", [0.9, 1.2, 2, 4, 10, 30, 60])
def test_the_hard_cap_has_the_stated_accuracy(largest: float) -> None:
    bound = 3e-5 * max(1, largest**2)
    errors, sigmas = error(largest, torch.float64)
    assert errors.max() < bound
    assert sigmas.max() < 1 + bound
    rounded, _ = error(largest, torch.float32)
    assert rounded.max() < bound + 1e-5


def test_the_hard_cap_is_exact_for_small_singular_values_and_the_zero_matrix() -> None:
    """Where a sign of W itself would err: sigma of all sizes beside one above 1."""
    s = torch.logspace(-9, 0, 24, dtype=torch.float64)
    s[-1] = 1.5
    f = caps.hard_cap(torch.diag(s.square()).unsqueeze(0))[0]
    assert_close((f @ torch.diag(s)).diagonal()[:-1], s[:-1], rtol=1e-8, atol=0)
    zero = torch.zeros(2, 4, 4)
    assert_close(caps.hard_cap(zero), torch.eye(4).expand(2, 4, 4), rtol=0, atol=1e-6)


def test_the_bounds_hold_the_largest_eigenvalue() -> None:
    draw = torch.Generator().manual_seed(1)
    w = torch.randn(30, 12, 20, generator=draw, dtype=torch.float64) * torch.logspace(-8, 8, 30).view(-1, 1, 1)
    gram = w @ w.mT
    exact = torch.linalg.eigvalsh(gram)[:, -1]
    lower, upper = caps.eigenvalue_bounds(gram)
    assert (lower <= exact * (1 + 1e-12)).all()
    assert (upper >= exact * (1 - 1e-12)).all()
    assert (lower > 0.94 * exact).all()
    assert (upper < 1.1 * exact).all()
    equal = 3 * torch.eye(128, dtype=torch.float64).unsqueeze(0)
    assert_close(caps.eigenvalue_bounds(equal)[0].item(), 3.0)
    top = torch.full((128,), 0.8, dtype=torch.float64)  # the worst kind: many eigenvalues near the largest
    top[0] = 1
    worst = min(caps.eigenvalue_bounds(torch.diag(top**k).unsqueeze(0))[0].item() for k in np.linspace(0.1, 2, 40))
    assert 0.89 <= worst < 0.92


def test_the_soft_cap_is_its_polynomial_of_the_singular_values() -> None:
    u, v = factors()
    s = spectra(1.2)
    alpha = torch.linspace(0.01, 0.3, SPECTRA, dtype=torch.float64)
    w = (u * s.unsqueeze(1)) @ v
    p = s - alpha.unsqueeze(1) * s**3
    q = p + alpha.unsqueeze(1) * p**3
    assert_close(caps.soft_cap(w @ w.mT, alpha) @ w, (u * q.unsqueeze(1)) @ v)


@pytest.mark.parametrize("reach", [1.0001, 1.01, 1.024, 1.1, 1.3])
def test_the_strength_is_a_root_of_the_authors_polynomial(reach: float) -> None:
    """`soft_cap_coupling` in modula/atom.py, with w_max = 1 and k = w_max + max_update_norm."""
    roots = np.roots([-(reach**9), 3 * reach**7, -3 * reach**5, 0, reach - 1])
    real = roots.real[(abs(roots.imag) < 1e-6) & (roots.real >= 0)]
    actual = caps.soft_cap_strength(torch.tensor([reach], dtype=torch.float64)).item()
    assert actual == pytest.approx(real.min(), rel=1e-9)


def test_the_soft_cap_never_exceeds_one_below_its_reach() -> None:
    for reach in (1.0, 1.05, 1.3):
        alpha = caps.soft_cap_strength(torch.tensor([reach], dtype=torch.float64))
        s = torch.linspace(0, reach, 500, dtype=torch.float64)
        capped = torch.diag(caps.soft_cap(torch.diag(s.square()).unsqueeze(0), alpha)[0]) * s
        assert (capped.diff() > 0).all()
        assert_close(capped[-1].item(), 1.0, rtol=1e-6, atol=0)
    far = torch.tensor([1.5, 40.0], dtype=torch.float64)
    s = torch.diag_embed(far.view(2, 1))
    assert_close((caps.soft_cap(s**2, caps.soft_cap_strength(far)) * s).flatten(), far * 62 / 81, rtol=1e-9, atol=0)
