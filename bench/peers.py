"""Other ways to the same result, in their usual form."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from sns.linalg.weights import weight_parameters


def svd_penalty(model: nn.Module, factor: float) -> Tensor:
    """Adds the gradient of factor / 2 * sum sigma^2 through torch's matrix norm.

    Returns the penalty.
    """
    weights = weight_parameters(model)
    squares = [torch.linalg.matrix_norm(weight.flatten(1), 2).square() for weight in weights]
    return _backward(0.5 * factor * torch.stack(squares).sum())


def fresh_iterations_penalty(model: nn.Module, factor: float, iterations: int = 5) -> Tensor:
    """The same by `iterations` power iterations from a vector of ones at every call.

    They are differentiated throughout.
    """
    squares = []
    for weight in weight_parameters(model):
        matrix = weight.flatten(1)
        u = matrix.new_ones(matrix.shape[0])
        for _ in range(iterations):
            v = matrix.mT @ u
            v = v / v.norm()
            u = matrix @ v
            u = u / u.norm()
        squares.append((u @ matrix @ v).square())
    return _backward(0.5 * factor * torch.stack(squares).sum())


def _backward(penalty: Tensor) -> Tensor:
    penalty.backward()
    return penalty.detach()


def normalize_spectrally(model: nn.Module) -> nn.Module:
    """`model` with torch's spectral_norm parametrization on every weight matrix."""
    for module in list(model.modules()):
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            parametrizations.spectral_norm(module)
    return model


def three_passes(
    model: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    alpha: float = 0.5,
    epsilon: float = 1.0,
    *,
    share: float = 1.0,
    whole: bool,
) -> None:
    """Adversarial training in three passes: input gradient, clean images, perturbed images.

    `whole`: the first pass calls loss.backward(), as tutorials do, and drops the weights'
    gradients; else autograd computes the input's gradient alone. Adds `share` times the gradients
    to `.grad`.
    """
    leaf = x.detach().requires_grad_(True)
    if whole:
        before = [parameter.grad for parameter in model.parameters()]
        model.zero_grad(set_to_none=True)
        loss(leaf, y).backward()
        gradient = leaf.grad
        for parameter, earlier in zip(model.parameters(), before, strict=True):
            parameter.grad = earlier
    else:
        (gradient,) = torch.autograd.grad(loss(leaf, y), leaf)
    assert gradient is not None
    norm = gradient.flatten(1).norm(dim=1).clamp_min(1e-30).view(-1, 1, 1, 1)
    (share * alpha * loss(x, y)).backward()
    (share * (1 - alpha) * loss(x + epsilon * gradient / norm, y)).backward()


def fourier_operator_norm(weight: Tensor, size: tuple[int, int]) -> float:
    """Norm of the circular convolution by an SVD at every frequency (Sedghi et al. 2019)."""
    coefficients = torch.fft.fft2(weight.detach().double(), size).permute(2, 3, 0, 1)
    return float(torch.linalg.svdvals(coefficients).max())
