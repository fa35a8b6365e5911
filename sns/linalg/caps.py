"""Functions of singular values by matrix products alone: no decomposition, no wait for the device.

A matrix W (m, n) with m <= n and singular values sigma is given by its Gram matrix G = W W^T. A
function returns the symmetric F (m, m) for which F W has the wanted singular values. All work in
batches: G (L, m, m).
"""

import torch
from torch import Tensor

from sns.linalg.power_iteration import TINY

# x (a + b x^2 + c x^4) for each triple in turn tends to sign(x), for 1e-3 <= |x| <= 1: Polar
# Express (Amsel et al. 2025, arXiv 2505.16932, algorithm 1; github.com/NoahAmsel/PolarExpress). The
# algorithm's division by 1.01 is for bfloat16; here all is at least float32.
POLAR_EXPRESS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
)
WELL_CONDITIONED = POLAR_EXPRESS[2:]  # enough for 0.04 <= |x| <= 1
MONOTONE = 1 / 3  # the largest alpha k^2 for which the soft cap increases up to k


def eigenvalue_bounds(gram: Tensor, doublings: int = 4) -> tuple[Tensor, Tensor]:
    """A lower and an upper bound (L,) of the largest eigenvalue of G (L, m, m), from its powers.

    With p = 2^(doublings - 1): (|G^2p| / |G^p|)^(1/p) and |G^2p|^(1/2p) in the Frobenius norm. The
    lower one is exact if all eigenvalues are equal, and at m = 128 at least 0.89 of the eigenvalue.
    """
    power, log_norm = gram, gram.new_zeros(len(gram))  # the power is divided by its norm, for the range of numbers
    for k in range(doublings + 1):
        norm = power.norm(dim=(1, 2)).clamp_min(TINY)
        before, log_norm = log_norm, log_norm + norm.log()  # log_norm: of |G^(2^k)|
        if k < doublings:
            power = power / norm.view(-1, 1, 1)
            power, log_norm = power @ power, 2 * log_norm
    p = 2 ** (doublings - 1)
    return ((log_norm - before / 2) / p).exp(), (log_norm / (2 * p)).exp()


def _polynomial(x: Tensor, a: float, b: float, c: float) -> Tensor:
    """a I + b X + c X^2 of symmetric X (L, m, m)."""
    result = torch.baddbmm(x, x, x, beta=b, alpha=c)
    result.diagonal(dim1=1, dim2=2).add_(a)
    return result


def matrix_sign(x: Tensor) -> Tensor:
    """sign(X) of symmetric X (L, m, m) with eigenvalues in [-1, 1].

    The error is below 2e-9 for eigenvalues of at least 1e-3 in size. Smaller ones give less than 1.
    """
    for a, b, c in POLAR_EXPRESS:
        x = x @ _polynomial(x @ x, a, b, c)
    return x


def inverse_square_root(x: Tensor) -> Tensor:
    """X^(-1/2) of symmetric X (L, m, m) with eigenvalues in [0.0016, 1]."""
    root = None
    for a, b, c in WELL_CONDITIONED:
        factor = _polynomial(x, a, b, c)
        root = factor if root is None else root @ factor
        x = x @ (factor @ factor)
    assert root is not None
    return root


def hard_cap(gram: Tensor) -> Tensor:
    """F for which F W has the singular values min(sigma, 1): max(G, I)^(-1/2).

    max(G, I) = (G + I + |G - I|) / 2, and |X| = X sign(X). The sign is inexact only where sigma is
    close to 1. Hence the error is at most 3e-5 * max(1, sigma_1^2), and 1e-8 * sigma where sigma <=
    0.5, in float64. In float32 rounding adds about 1e-5. The sign of W itself, as in
    NVIDIA-NeMo/Emerging-Optimizers, errs by up to 0.125 at the smallest singular values; the four
    polynomials of the authors of arXiv 2507.13338 err by 0.034 for sigma <= 3.
    """
    largest = eigenvalue_bounds(gram)[1].view(-1, 1, 1)
    scale = (largest - 1).clamp_min(1.0)
    eye = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    excess = (gram - eye) / scale
    above = (gram + eye + scale * (excess @ matrix_sign(excess))) / 2
    largest = largest.clamp_min(1.0)
    return inverse_square_root(above / largest) / largest.sqrt()


def soft_cap(gram: Tensor, alpha: Tensor) -> Tensor:
    """F for which F W has the singular values q(p(sigma)), alpha (L,).

    p(x) = x - alpha x^3 and q(x) = x + alpha x^3 (arXiv 2507.13338), in three products.
    """
    s = alpha.view(-1, 1, 1) * gram
    eye = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    p = eye - s
    return p + p @ (s @ (p @ p))


def soft_cap_strength(reach: Tensor) -> Tensor:
    """The least alpha >= 0 with q(p(reach)) = 1, for reach (L,) of at least 1.

    With t = alpha reach^2 it solves 3 t^2 - 3 t^3 + t^4 = 1 - 1 / reach by Newton's method, in a
    fixed number of steps. t is at most 1/3: beyond, q(p(x)) has a larger value below `reach`. Thus
    a reach above 1.3065 becomes 0.765 * reach.
    """
    excess = (1 - 1 / reach).clamp_min(TINY)
    t = (excess / 3).sqrt()
    for _ in range(5):
        t = t - (t**2 * (3 - 3 * t + t**2) - excess) / (t * (6 - 9 * t + 4 * t**2))
    return t.clamp_max(MONOTONE) / reach.square()
