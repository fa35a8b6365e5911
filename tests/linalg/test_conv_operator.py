"""Operator norms of convolutions against the matrices of the maps themselves."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from sns.linalg import conv_operator
from sns.linalg.circular import circular_operator_norm
from sns.linalg.conv_operator import Convolution, _autocorrelation, _gram, _lanczos, _start, operator_norm

GEOMETRIES = [  # (out, in, kh, kw), (H, W), stride, padding
    ((5, 3, 3, 3), (8, 8), 1, 1),
    ((5, 3, 3, 3), (8, 8), 1, 0),
    ((5, 3, 3, 3), (8, 7), 2, 1),
    ((5, 3, 3, 3), (7, 8), 2, 0),
    ((3, 6, 5, 5), (9, 9), 1, 2),
    ((3, 6, 5, 5), (10, 9), 2, 2),
    ((3, 6, 5, 5), (8, 8), 1, 4),
    ((4, 3, 3, 5), (9, 8), (2, 1), (0, 2)),
    ((4, 3, 2, 2), (9, 8), 3, 1),
    ((4, 3, 3, 3), (10, 11), 3, 0),
    ((6, 5, 1, 1), (6, 6), 1, 0),
    ((6, 5, 1, 1), (6, 6), 1, 1),
    ((6, 5, 1, 1), (8, 7), 2, 0),
    ((6, 5, 1, 1), (8, 8), 2, 1),
    ((1, 1, 3, 3), (2, 2), 1, 1),
    ((3, 2, 1, 1), (1, 1), 2, 1),  # no output sees the one pixel
]


def kernel(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def identity(channels: int, size: tuple[int, int]) -> Tensor:
    """Every basis image of the input space, as one batch."""
    n = channels * size[0] * size[1]
    return torch.eye(n, dtype=torch.float64).view(n, channels, *size)


def dense_norm(weight: Tensor, size: tuple[int, int], stride: object, padding: object) -> Tensor:
    columns = F.conv2d(identity(weight.shape[1], size), weight, stride=stride, padding=padding).flatten(1)
    return torch.linalg.matrix_norm(columns, 2)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("dense_rank", [conv_operator.DENSE, 2])  # 2: Lanczos even where the matrix is small
def test_operator_norm_is_that_of_the_matrix(
    geometry: tuple[tuple[int, ...], tuple[int, int], object, object], dense_rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape, size, stride, padding = geometry
    monkeypatch.setattr(conv_operator, "DENSE", dense_rank)
    weight = kernel(shape)
    norm = operator_norm(weight, size, stride, padding, tolerance=1e-9)
    assert_close(norm, dense_norm(weight, size, stride, padding).item(), rtol=1e-9, atol=0)


def test_default_tolerance_gives_seven_digits_for_a_flat_spectrum() -> None:
    weight = kernel((4, 4, 3, 3))
    assert_close(operator_norm(weight, (12, 12), 1, 1), dense_norm(weight, (12, 12), 1, 1).item(), rtol=1e-7, atol=0)


@pytest.mark.parametrize(
    ("stride", "padding", "size"), [(1, 1, (6, 5)), (2, 0, (6, 7)), (2, 1, (6, 7)), (3, 2, (8, 6))]
)
def test_adjoint_satisfies_its_definition(stride: int, padding: int, size: tuple[int, int]) -> None:
    operator = Convolution(kernel((4, 3, 3, 3)), size, (stride, stride), (padding, padding))
    x, y = kernel(operator.input_shape, 1), kernel(operator.output_shape, 2)
    assert operator.apply(x).shape == operator.output_shape
    assert operator.adjoint(y).shape == operator.input_shape
    assert_close((operator.apply(x) * y).sum(), (x * operator.adjoint(y)).sum(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("shape", "padding", "dilation"), [((4, 3, 3, 3), (1, 1), (1, 1)), ((2, 5, 3, 5), (0, 3), (2, 1))]
)
def test_the_adjoint_as_a_convolution(
    shape: tuple[int, ...], padding: tuple[int, int], dilation: tuple[int, int]
) -> None:
    operator = Convolution(kernel(shape), (9, 8), (1, 1), padding, dilation)
    y, turned = kernel(operator.output_shape, 1), operator.turned()
    assert turned is not None
    assert_close(turned.apply(y), operator.adjoint(y), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "other", [{"stride": (2, 1)}, {"groups": 2}, {"padding": (1, 3)}], ids=["stride", "groups", "padding"]
)
def test_an_adjoint_that_is_no_convolution(other: dict[str, Any]) -> None:
    assert (
        Convolution(
            kernel((4, 2, 3, 3)), **{"input_size": (9, 8), "stride": (1, 1), "padding": (1, 1)} | other
        ).turned()
        is None
    )


@pytest.mark.parametrize("shape", [(9, 2, 2, 2), (20, 1, 3, 5)])
def test_the_kernel_of_the_normal_product(shape: tuple[int, ...]) -> None:
    """Far from the borders, A^T A is a convolution with the kernel's autocorrelation."""
    reach = shape[2] - 1, shape[3] - 1
    operator = Convolution(kernel(shape), (16, 18), (1, 1), reach)
    gram = _gram(operator)
    assert gram is not None
    both = Convolution(_autocorrelation(operator, gram), (16, 18), (1, 1), reach)
    x = torch.zeros(operator.input_shape, dtype=torch.float64)
    x[:, :, 5:11, 5:13] = kernel((1, shape[1], 6, 8), 1)
    assert_close(both.apply(x), operator.adjoint(operator.apply(x)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(12, 12, 3, 3), (27, 3, 3, 3)])
def test_a_restart_retains_the_best_directions(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for 32 directions, from noise: what is retained makes 25 restarts enough."""
    monkeypatch.setattr(conv_operator, "ROOM", 0)
    operator = Convolution(kernel(shape), (14, 14), (1, 1), (1, 1))
    square, image, converged = _lanczos(operator, 1e-9, 25, kernel(operator.input_shape, 1))
    norm = dense_norm(operator.weight, (14, 14), 1, 1)
    assert converged
    assert_close(square, norm.item() ** 2, rtol=1e-9, atol=0)
    assert_close(operator.apply(image).norm() / image.norm(), norm, rtol=1e-8, atol=0)


def test_groups_and_dilation() -> None:
    weight, size = kernel((4, 2, 3, 3)), (7, 7)
    columns = F.conv2d(identity(4, size), weight, padding=2, dilation=2, groups=2).flatten(1)
    norm = operator_norm(weight, size, 1, 2, dilation=2, groups=2, tolerance=1e-9)
    assert_close(norm, torch.linalg.matrix_norm(columns, 2).item(), rtol=1e-9, atol=0)


def circulant(weight: Tensor, size: tuple[int, int]) -> Tensor:
    """The doubly block-circulant matrix: each tap is a cyclic shift of the image."""
    columns = torch.zeros(weight.shape[1] * size[0] * size[1], weight.shape[0], *size, dtype=torch.float64)
    basis = identity(weight.shape[1], size)
    for i in range(weight.shape[2]):
        for j in range(weight.shape[3]):
            shifted = torch.roll(basis, (-i, -j), dims=(2, 3))
            columns += torch.einsum("oc,nchw->nohw", weight[:, :, i, j], shifted)
    return columns.flatten(1)


@pytest.mark.parametrize("shape", [(4, 3, 3, 3), (3, 4, 5, 5), (3, 3, 1, 1), (2, 3, 3, 5)])
@pytest.mark.parametrize("size", [(6, 6), (5, 8), (2, 2), (1, 1), (3, 4)])
def test_circular_norm_is_that_of_the_circulant_matrix(shape: tuple[int, ...], size: tuple[int, int]) -> None:
    weight = kernel(shape)
    expected = torch.linalg.matrix_norm(circulant(weight, size), 2).item()
    assert_close(circular_operator_norm(weight, size), expected, rtol=1e-12, atol=0)


def test_reshaped_kernel_has_another_norm() -> None:
    """Erratum 4: here a blur, whose gain on a constant image is 1, has the reshaped norm 1/3."""
    blur = torch.full((1, 1, 3, 3), 1 / 9, dtype=torch.float64)
    assert_close(torch.linalg.matrix_norm(blur.flatten(1), 2).item(), 1 / 3)
    assert_close(circular_operator_norm(blur, (8, 8)), 1.0)
    assert 0.9 < operator_norm(blur, (16, 16), 1, 1) < 1


def test_float32_weights_are_measured_in_float64() -> None:
    weight = kernel((4, 3, 3, 3)).float()
    assert operator_norm(weight, (6, 6), 1, 1) == operator_norm(weight.double(), (6, 6), 1, 1)
    assert circular_operator_norm(weight, (6, 6)) == circular_operator_norm(weight.double(), (6, 6))


def test_zero_and_broken_weights() -> None:
    weight = torch.zeros(4, 3, 3, 3)
    assert operator_norm(weight, (8, 8), 1, 1) == 0.0
    assert circular_operator_norm(weight, (8, 8)) == 0.0
    weight[0, 0, 0, 0] = math.inf
    assert math.isnan(operator_norm(weight, (8, 8), 1, 1))
    assert math.isnan(circular_operator_norm(weight, (8, 8)))


def test_without_convergence_the_norm_is_nan_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="left out"):
        assert math.isnan(operator_norm(kernel((12, 12, 3, 3)), (12, 12), 1, 1, tolerance=0.0, iterations=1))


def test_kernel_larger_than_the_padded_input_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        operator_norm(kernel((4, 3, 5, 5)), (4, 4), 1, 0)


def test_start_comes_from_the_generator_not_the_global_stream() -> None:
    weight, before = kernel((12, 12, 3, 3)), torch.get_rng_state()
    other = operator_norm(weight, (12, 12), 1, 1, generator=torch.Generator().manual_seed(5))
    assert_close(operator_norm(weight, (12, 12), 1, 1), other, rtol=1e-7, atol=0)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_weights_beyond_float32_have_their_norm(scale: float) -> None:
    weight = kernel((6, 5, 3, 3))
    assert_close(
        operator_norm(weight * scale, (9, 8), 1, 1) / scale, operator_norm(weight, (9, 8), 1, 1), rtol=1e-7, atol=0
    )


@pytest.mark.parametrize("shape", [(8, 8, 3, 3), (6, 12, 5, 5), (16, 3, 3, 3)])
def test_a_wave_is_a_better_start_than_noise(shape: tuple[int, ...]) -> None:
    """The quotient |A x| / |x| of the start, relative to the norm."""
    operator = Convolution(kernel(shape).float(), (24, 24), (1, 1), (shape[2] // 2,) * 2)
    start = _start(operator, torch.Generator().manual_seed(0))
    share = operator.apply(start).norm() / start.norm() / operator.norm()
    assert share > 0.97


def test_a_kernel_without_gain_at_a_frequency_has_a_norm() -> None:
    """Kernels of mean zero: the constant wave, the only one on images of one pixel, has gain 0."""
    weight = kernel((40, 40, 3, 3))
    weight = weight - weight.mean((2, 3), keepdim=True)
    one = Convolution(weight.double(), (1, 1), (1, 1), (1, 1))
    dense = one.apply(torch.eye(40, dtype=torch.float64).view(40, 40, 1, 1)).flatten(1)
    assert operator_norm(weight, (1, 1), 1, 1) == pytest.approx(torch.linalg.svdvals(dense)[0].item(), rel=1e-5)
