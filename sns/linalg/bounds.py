"""What is published in place of a convolution's norm at stride 1: other norms, and bounds.

The norm itself, of the map with zero padding, is `Convolution.norm`. Each function takes the weight
(O, I, kh, kw) and the input's (H, W), and computes in float64 unless it says otherwise.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from sns.linalg.circular import circular_operator_norm, transfer_matrices

Size = tuple[int, int]
ITERATIONS = 6  # of Gram iteration, whose excess falls doubly exponentially


def _sigma(matrix: Tensor) -> float:
    return float(torch.linalg.matrix_norm(matrix.double(), 2))


def reshaped(weight: Tensor, size: Size) -> float:
    """sigma of the (O, I kh kw) matrix, which the paper penalises (section 3.2). No bound."""
    return _sigma(weight.flatten(1))


def reshaped_bound(weight: Tensor, size: Size) -> float:
    """sqrt(kh kw) times that (Tsuzuku et al. 2018, arXiv 1802.04034)."""
    return math.sqrt(weight[0, 0].numel()) * reshaped(weight, size)


def fantastic_four(weight: Tensor, size: Size) -> float:
    """sqrt(kh kw) times the least sigma of four reshaped kernels (Singla & Feizi 2021, arXiv
    1911.10258)."""
    orders = ((0, 1, 2, 3), (1, 0, 2, 3))  # (O, I kh kw) and (I, O kh kw)
    wide = [_sigma(weight.permute(order).flatten(1)) for order in orders]
    orders = ((0, 2, 1, 3), (0, 3, 1, 2))  # (O kh, I kw) and (O kw, I kh)
    square = [_sigma(weight.permute(order).flatten(0, 1).flatten(1)) for order in orders]
    return math.sqrt(weight[0, 0].numel()) * min(*wide, *square)


def lip_bound(weight: Tensor, size: Size) -> float:
    """sqrt(sum over outputs of the largest squared norm of a row of the transfer matrix) (Araujo et
    al. 2021, arXiv 2006.08391), on the input's frequencies: a bound only with all of them."""
    gains = transfer_matrices(weight.double(), size).abs().square().sum(dim=2)  # (frequencies, O)
    return math.sqrt(gains.amax(dim=0).sum().item())


def gram_iteration(weight: Tensor, size: Size) -> float:
    """A bound of the circular norm from powers of the Gram matrix at each frequency (Delattre et
    al. 2023, arXiv 2305.16173), in float32 with rescaling."""
    gains = transfer_matrices(weight.float(), size)
    gains = gains if gains.shape[1] >= gains.shape[2] else gains.mH
    log_scale = torch.zeros(len(gains), dtype=torch.float64, device=weight.device)
    for _ in range(ITERATIONS):
        norm = torch.linalg.matrix_norm(gains)
        gains = gains / norm[:, None, None]
        log_scale = 2 * (log_scale + norm.double().log())
        gains = gains.mH @ gains
    logs = (log_scale + torch.linalg.matrix_norm(gains).double().log()) / 2**ITERATIONS
    return math.exp(logs.max().item())


def circular(weight: Tensor, size: Size) -> float:
    """The norm with circular padding (Sedghi et al. 2019). No bound with zero padding."""
    return circular_operator_norm(weight, size)


def circular_larger(weight: Tensor, size: Size) -> float:
    """The same on (H + kh - 1, W + kw - 1) inputs. The map with zero padding is a part of that one,
    hence it is a bound."""
    kh, kw = weight.shape[2:]
    return circular_operator_norm(weight, (size[0] + kh - 1, size[1] + kw - 1))


def gram_iteration_larger(weight: Tensor, size: Size) -> float:
    """Gram iteration on these larger inputs: a bound with zero padding too."""
    kh, kw = weight.shape[2:]
    return gram_iteration(weight, (size[0] + kh - 1, size[1] + kw - 1))


ESTIMATES: dict[str, Callable[[Tensor, Size], float]] = {
    function.__name__: function
    for function in (
        reshaped,
        reshaped_bound,
        fantastic_four,
        lip_bound,
        circular,
        circular_larger,
        gram_iteration,
        gram_iteration_larger,
    )
}
BOUNDS = ("reshaped_bound", "fantastic_four", "circular_larger", "gram_iteration_larger")  # with zero padding
