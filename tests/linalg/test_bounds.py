"""Bounds hold, and each estimate has its value where that is known."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from sns.linalg.bounds import BOUNDS, ESTIMATES
from sns.linalg.circular import circular_operator_norm
from sns.linalg.conv_operator import operator_norm


def kernel(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


SHAPES = [((6, 4, 3, 3), (9, 9)), ((3, 8, 5, 5), (12, 10)), ((7, 7, 3, 3), (2, 2)), ((4, 4, 3, 3), (1, 1))]


@pytest.mark.parametrize(("shape", "size"), SHAPES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_bounds_hold_with_zero_padding(shape: tuple[int, ...], size: tuple[int, int], seed: int) -> None:
    weight = kernel(*shape, seed=seed)
    exact = operator_norm(weight, size, 1, shape[2] // 2)
    for name in BOUNDS:
        assert ESTIMATES[name](weight, size) >= exact * (1 - 1e-5), name


@pytest.mark.parametrize(("shape", "size"), SHAPES)
def test_gram_iteration_is_a_close_bound_of_the_circular_norm(shape: tuple[int, ...], size: tuple[int, int]) -> None:
    weight = kernel(*shape)
    excess = ESTIMATES["gram_iteration"](weight, size) / circular_operator_norm(weight, size) - 1
    assert -1e-5 <= excess < 0.05


def test_one_by_one_kernels() -> None:
    """The map is the matrix at every pixel."""
    weight = kernel(6, 4, 1, 1)
    sigma = torch.linalg.matrix_norm(weight.flatten(1), 2).item()
    for name in ("reshaped", "reshaped_bound", "fantastic_four", "circular", "circular_larger"):
        assert ESTIMATES[name](weight, (8, 8)) == pytest.approx(sigma), name


def test_a_constant_kernel_of_one_channel() -> None:
    """All ones: the zero frequency has gain 9, and every reshaped matrix is of rank 1."""
    weight = torch.ones(1, 1, 3, 3, dtype=torch.float64)
    values = {name: function(weight, (16, 16)) for name, function in ESTIMATES.items()}
    assert_close(values["reshaped"], 3.0)
    for name in ("reshaped_bound", "fantastic_four", "lip_bound", "circular", "circular_larger"):
        assert_close(values[name], 9.0)
    assert values["gram_iteration"] == pytest.approx(9.0, rel=1e-5)
    assert operator_norm(weight, (16, 16), 1, 1) < 9.0


def test_the_sampled_bound_is_the_frobenius_norm_for_one_output() -> None:
    weight = kernel(1, 5, 3, 3)
    gains = torch.fft.fft2(weight, s=(8, 8)).abs().square().sum(dim=1)
    assert_close(ESTIMATES["lip_bound"](weight, (8, 8)), math.sqrt(gains.max().item()))


def test_circular_padding_bounds_zero_padding_on_larger_inputs_only() -> None:
    """On the input's own size the frequency with the largest gain may be missing."""
    weight = kernel(1, 1, 5, 5, seed=263)
    exact = operator_norm(weight, (2, 2), 1, 2)
    for name in ("circular", "gram_iteration"):
        assert ESTIMATES[name](weight, (2, 2)) < 0.6 * exact
        assert ESTIMATES[f"{name}_larger"](weight, (2, 2)) > exact
