"""What public code computes as the penalty of one kernel, where that is not lambda/2 sigma^2.

`lmt`: ytsmiling/lmt, src/hook/spectral_norm_regularization.py, which runs Algorithm 1 as printed.
`gouk`: henrygouk/keras-lipschitz-networks, arch/lipschitz.py, class SpectralDecay. `blog_1`,
`blog_2`: both iterations of 0809zheng.github.io, 19 September 2020, whose penalty is lambda times
them. The last three are differentiated through their iterations.
"""

import torch
from torch import Tensor


def lmt(weight: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """What one update adds at lambda = 1, and the next x: weight (out, n), x (out,).

    x has length 1 at the start of each update, so that nothing explodes: the addition is about
    sigma^2 times the product of unit vectors.
    """
    u = (x / x.norm()) @ weight
    v = weight @ u
    return u.norm() / v.norm() * torch.outer(v, u), v


def gouk(kernel: Tensor, start: Tensor, n_iterations: int = 2) -> Tensor:
    """|W^T x|^2 / |x|^2, (), W (out, n), for x after `n_iterations` of W W^T from start (out,)."""
    w, x = kernel.flatten(1), start
    for _ in range(n_iterations):
        x = w.mv(w.T.mv(x))
    return w.T.mv(x).square().sum() / x.square().sum()


def blog_1(kernel: Tensor, n_iterations: int = 5) -> Tensor:
    """u^T W^T W u, (), after `n_iterations` of u <- W^T W u / |.|, W by the last dimension."""
    w = kernel.reshape(-1, kernel.shape[-1])
    u = torch.ones_like(w[0])
    for _ in range(n_iterations):
        image = w.T.mv(w.mv(u))
        u = image / image.norm()
    return w.mv(u).square().sum()


def blog_2(kernel: Tensor, n_iterations: int = 5) -> Tensor:
    """u^T W v, (), after `n_iterations` of v <- W^T u / |W^T u|, u <- W v / |W v|, W likewise."""
    w = kernel.reshape(-1, kernel.shape[-1])
    u = torch.ones_like(w[:, 0])
    for _ in range(n_iterations):
        v = w.T.mv(u)
        v = v / v.norm()
        u = w.mv(v)
        u = u / u.norm()
    return u.dot(w.mv(v))
