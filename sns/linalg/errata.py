"""The paper's errata in numbers: small examples with fixed seeds, in float64.

docs/reproduction.md quotes these numbers; scripts/errata.py prints them. No run uses this module.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sns.linalg.circular import circular_operator_norm
from sns.linalg.conv_operator import operator_norm
from sns.linalg.power_iteration import literal_algorithm_1, power_iteration
from sns.linalg.published import blog_1, blog_2, gouk, lmt


def gaussian(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """N(0, 1 / fan_in) in float64, the initial weights of the networks: shape (out, in, ...)."""
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn / math.sqrt(math.prod(shape[1:]))


@dataclass(frozen=True)
class Iteration:
    """One step of Algorithm 1 on a matrix of largest singular value sigma_1."""

    printed_sigma: float  # |u| / |v|
    printed_excess: float  # |sigma u v^T| / sigma_1: 1 would be right
    corrected_excess: float  # the same with unit vectors


def algorithm_1(sigma_1: float, steps: int) -> list[Iteration]:
    """Algorithm 1 on a 64 x 576 Gaussian matrix scaled to `sigma_1`, from a Gaussian v.

    One entry for each of steps 1 ... `steps`, and a last one for step 200.
    """
    w = gaussian((64, 576))
    w *= sigma_1 / torch.linalg.matrix_norm(w, 2)
    start = torch.randn(576, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rows = []
    for n in [*range(1, steps + 1), 200]:
        sigma, u, v = literal_algorithm_1(w, start, n)
        corrected, _, _ = power_iteration(w, start / start.norm(), n)
        excess = sigma * u.norm() * v.norm() / sigma_1
        rows.append(Iteration(sigma.item(), excess.item(), corrected.item() / sigma_1))
    return rows


def gradient_ratios() -> dict[str, float]:
    """For each form of a penalty: its slope by finite differences / that of the paper's gradient.

    1 says that the paper's term is the gradient of this form: lambda sigma u v^T for sigma, lambda
    W for Frobenius; lambda = 0.01.
    """
    factor, w, direction = 0.01, gaussian((8, 12)), gaussian((8, 12), 1)
    left, values, right = torch.linalg.svd(w, full_matrices=False)
    spectral = factor * values[0] * torch.outer(left[:, 0], right[0])

    def slope(penalty: Callable[[Tensor], Tensor], step: float = 1e-5) -> Tensor:
        return (penalty(w + step * direction) - penalty(w - step * direction)) / (2 * step)

    def sigma_squared(matrix: Tensor) -> Tensor:
        squared: Tensor = torch.linalg.matrix_norm(matrix, 2).square()
        return squared

    def frobenius_squared(matrix: Tensor) -> Tensor:
        total: Tensor = matrix.square().sum()
        return total

    along, decay_along = (spectral * direction).sum(), factor * (w * direction).sum()
    return {
        "lambda/2 sigma^2": (factor / 2 * slope(sigma_squared) / along).item(),
        "lambda sigma^2": (factor * slope(sigma_squared) / along).item(),
        "1/2 sigma^2, without lambda": (slope(sigma_squared) / 2 / along).item(),
        "lambda/2 |W|_F^2": (factor / 2 * slope(frobenius_squared) / decay_along).item(),
    }


def reshaped_norms(out: int = 128, channels: int = 64) -> tuple[float, float]:
    """Norms of an out x in x 3 x 3 kernel in two shapes: out x (in * 9), and by its last dimension.

    The second is (out * in * 3) x 3.
    """
    kernel = gaussian((out, channels, 3, 3))
    right, wrong = kernel.flatten(1), kernel.reshape(-1, kernel.shape[-1])
    return torch.linalg.matrix_norm(right, 2).item(), torch.linalg.matrix_norm(wrong, 2).item()


@dataclass(frozen=True)
class PublicGradient:
    """What public code adds to the gradient, against the paper's lambda sigma_1 u_1 v_1^T."""

    size: float  # ratio of the norms
    cosine: float  # of the angle between the two


def public_gradients(sigma_1: float, updates: int = 200) -> dict[str, PublicGradient]:
    """For each repository, on a Gaussian 64 x 32 x 3 x 3 kernel scaled to `sigma_1`, which does not
    change for `updates`; with as many iterations an update as published."""
    kernel = gaussian((64, 32, 3, 3))
    w = kernel.flatten(1)
    kernel *= sigma_1 / torch.linalg.matrix_norm(w, 2)  # w is a view
    left, values, right = torch.linalg.svd(w, full_matrices=False)
    paper = values[0] * torch.outer(left[:, 0], right[0])
    start = torch.randn(64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x, (sigma, u, v) = start, power_iteration(w, paper.new_ones(w.shape[1]), updates)
    for _ in range(updates):
        printed, x = lmt(w, x)

    def differentiated(form: Callable[[Tensor], Tensor]) -> Tensor:
        tensor = kernel.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(form(tensor), tensor)
        return gradient.flatten(1)

    added = {
        "this repository": sigma * torch.outer(u, v),
        "ytsmiling/lmt": printed,
        "msakarvadia/memorization": torch.outer(u, v) / 2,
        "henrygouk/keras-lipschitz-networks": differentiated(lambda tensor: gouk(tensor, start)),
        "0809zheng.github.io, 1": differentiated(blog_1),
        "0809zheng.github.io, 2": differentiated(blog_2),
    }
    return {
        name: PublicGradient((g.norm() / paper.norm()).item(), ((g * paper).sum() / g.norm() / paper.norm()).item())
        for name, g in added.items()
    }


@dataclass(frozen=True)
class KernelNorms:
    """Norms of one kernel: of its reshaped matrix, and of the convolution on 32 x 32 images."""

    reshaped: float
    circular: float
    zero_padded: float


def kernel_norms(kernel: Tensor) -> KernelNorms:
    """All three norms of an (out, in, 3, 3) kernel."""
    reshaped = torch.linalg.matrix_norm(kernel.flatten(1), 2).item()
    size = (32, 32)
    return KernelNorms(reshaped, circular_operator_norm(kernel, size), operator_norm(kernel, size, padding=1))


def flat_kernel() -> Tensor:
    """A (16, 8, 3, 3) kernel with nine equal taps.

    On constant images they add up, to 3 times the reshaped norm.
    """
    return gaussian((16, 8))[:, :, None, None].expand(16, 8, 3, 3).contiguous()


@dataclass(frozen=True)
class Bound:
    """Products of norms over a small network's layers, and a measured |f(x + xi) - f(x)| / |xi|."""

    reshaped: float
    zero_padded: float
    measured: float


def product_bound() -> Bound:
    """Two 3x3 blurs with ReLU and zero padding, on a grey 32 x 32 image made a little brighter."""
    blur = torch.full((1, 1, 3, 3), 1 / 9, dtype=torch.float64)

    def network(x: Tensor) -> Tensor:
        for _ in range(2):
            x = F.relu(F.conv2d(x, blur, padding=1))
        return x

    x = torch.full((1, 1, 32, 32), 0.5, dtype=torch.float64)
    xi = torch.full_like(x, 0.01)
    norms = kernel_norms(blur)
    measured = (network(x + xi) - network(x)).norm() / xi.norm()
    return Bound(norms.reshaped**2, norms.zero_padded**2, measured.item())


@dataclass(frozen=True)
class Jacobians:
    """D2 W2 D1 W1 of a two-layer ReLU network, with two definitions of D, and by autograd."""

    by_input: list[list[float]]  # D from each layer's input, as printed
    by_preactivation: list[list[float]]  # D from each layer's pre-activation
    true: list[list[float]]  # by autograd


def piecewise_jacobians() -> Jacobians:
    """At x = (1, -1), with W1 = ((1, 2), (3, 1)), W2 = ((1, 1), (2, -1)) and no biases."""
    layers = [torch.tensor([[1.0, 2.0], [3.0, 1.0]]), torch.tensor([[1.0, 1.0], [2.0, -1.0]])]
    start = torch.tensor([1.0, -1.0])

    def network(x: Tensor) -> Tensor:
        for w in layers:
            x = F.relu(w @ x)
        return x

    x, by_input, by_preactivation = start, torch.eye(2), torch.eye(2)
    for w in layers:
        z = w @ x
        by_input = torch.diag((x > 0).float()) @ w @ by_input
        by_preactivation = torch.diag((z > 0).float()) @ w @ by_preactivation
        x = F.relu(z)
    true = torch.autograd.functional.jacobian(network, start)
    return Jacobians(by_input.tolist(), by_preactivation.tolist(), true.tolist())


@dataclass(frozen=True)
class Steps:
    """Means over images: both steps at epsilon = 1, and their effect on the loss (nats)."""

    image: float  # L2 norm of an image
    l2: float
    sign: float
    cosine: float  # of the angle between the two steps
    loss: float
    loss_l2: float
    loss_sign: float
    loss_sign_shortened: float  # the sign step at the L2 step's length


def adversarial_steps(images: int = 16) -> Steps:
    """The paper's step g / |g| and the sign step sgn(g) of its reference [9] on a small network.

    The network is convolutional with random weights. Its images are noise of 3 x 32 x 32,
    normalised as images are: mean 0, deviation 1.
    """
    x = torch.randn(images, 3, 32, 32, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    x = (x - x.mean((1, 2, 3), keepdim=True)) / x.std((1, 2, 3), keepdim=True, correction=0)
    first, second, head = gaussian((32, 3, 3, 3)), gaussian((64, 32, 3, 3), 1), gaussian((10, 64 * 8 * 8), 2)
    y = torch.arange(images) % len(head)

    def losses(x: Tensor) -> Tensor:
        h = F.max_pool2d(F.relu(F.conv2d(x, first, padding=1)), 2)
        h = F.max_pool2d(F.relu(F.conv2d(h, second, padding=1)), 2)
        return F.cross_entropy(h.flatten(1) @ head.mT, y, reduction="none")

    x.requires_grad_()
    (g,) = torch.autograd.grad(losses(x).sum(), x)
    with torch.no_grad():
        length = torch.linalg.vector_norm(g, dim=(1, 2, 3), keepdim=True)
        l2, sign = g / length, g.sign()
        sign_length = torch.linalg.vector_norm(sign, dim=(1, 2, 3), keepdim=True)
        cosine = (l2 * sign / sign_length).sum((1, 2, 3))
        means = [
            torch.linalg.vector_norm(x, dim=(1, 2, 3)),
            torch.linalg.vector_norm(l2, dim=(1, 2, 3)),
            sign_length,
            cosine,
            *(losses(x + step) for step in (0.0, l2, sign, sign / sign_length)),
        ]
        return Steps(*(mean.mean().item() for mean in means))


@dataclass(frozen=True)
class Underestimate:
    """How much one persistent power iteration an update underestimates sigma_1.

    Means over the last half of the updates: among nearly equal values the iteration is chaotic.
    """

    short: float  # (sigma_1 - estimate) / sigma_1
    rank_before: float  # stable rank |W|_F^2 / sigma_1^2: 64 is as flat as can be
    rank_after: float


def persistent_iteration(rate: float, updates: int = 2000, every: int = 20) -> Underestimate:
    """A 64 x 576 Gaussian matrix that only the penalty changes, at learning rate * lambda = `rate`.

    The penalty makes the top of its spectrum flat.
    """
    w, v = gaussian((64, 576)), torch.randn(576, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    v, before = v / v.norm(), stable_rank(torch.linalg.svdvals(w))
    short, ranks = [], []
    for update in range(updates):
        sigma, u, v = power_iteration(w, v, 1)
        if update >= updates // 2 and update % every == 0:
            values = torch.linalg.svdvals(w)
            short.append(1 - (sigma / values[0]).item())
            ranks.append(stable_rank(values))
        w -= rate * sigma * torch.outer(u, v)
    return Underestimate(sum(short) / len(short), before, sum(ranks) / len(ranks))


def stable_rank(values: Tensor) -> float:
    """Sum of squares of the singular values (descending) / the largest square."""
    return (values.square().sum() / values[0].square()).item()
