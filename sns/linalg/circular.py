"""Convolutions at stride 1 with circular padding, which the Fourier transform diagonalises
(Sedghi et al. 2019)."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def circular_operator_norm(weight: Tensor, input_size: tuple[int, int]) -> float:
    """Largest singular value of a convolution at stride 1 with circular padding, on H x W inputs.

    `weight` is (O, I, kh, kw). Exact: at each frequency the map is the O x I matrix of the kernels'
    Fourier coefficients (Sedghi et al. 2019, theorem 6); the norm is the largest over frequencies.
    A kernel larger than the input wraps around it. Float64 on the weight's device; NaN for a weight
    that is not finite.
    """
    weight = weight.detach().double()
    if not bool(weight.isfinite().all()):
        return math.nan
    coefficients = transfer_matrices(weight, input_size)
    if coefficients.shape[1] > coefficients.shape[2]:
        coefficients = coefficients.mT
    gram = coefficients @ coefficients.mH
    return float(torch.linalg.eigvalsh(gram)[:, -1].max().clamp_min(0).sqrt())


def transfer_matrices(weight: Tensor, input_size: tuple[int, int]) -> Tensor:
    """The matrices (H * (W // 2 + 1), O, I), complex, that a convolution at stride 1 with circular
    padding is at each frequency, up to a phase.

    Kernels are real: the other frequencies are conjugates, with equal singular values. A kernel
    larger than the input wraps around it.
    """
    (height, width), (kh, kw) = input_size, weight.shape[2:]
    weight = F.pad(weight, (0, -kw % width, 0, -kh % height))
    tiles = weight.reshape(*weight.shape[:2], -1, height, weight.shape[3] // width, width)
    matrices: Tensor = torch.fft.rfft2(tiles.sum(dim=(2, 4))).permute(2, 3, 0, 1).flatten(0, 1)
    return matrices
