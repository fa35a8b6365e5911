"""Loss, accuracy and input-gradient norms in evaluation mode (section 4.2, Figures 2 and 6)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sns.common.precision import autocast
from sns.common.seed import generator
from sns.measure.state import unchanged

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(frozen=True)
class Evaluation:
    """Means over all images (loss in nats, accuracy in [0, 1]) and L2 norms over the sample."""

    loss: float
    accuracy: float
    gradient_norm: float
    gradient_norm_rms: float


def evaluate(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    batch_size: int,
    gradient_samples: Tensor | None,
    precision: str = "fp32",
) -> Evaluation:
    """Evaluates `model` on contrast-normalised images x (N, C, H, W) with labels y (N,).

    `gradient_samples`: distinct indices (K,) of the images whose gradient norms are averaged; None:
    all. Those images get one forward and backward pass, for loss, accuracy and gradient; the others
    only a forward pass, under `autocast` at `precision`. Sums are float64 on the device, divided
    once and moved to the host once. ValueError on empty data, an empty sample or repeated indices.
    """
    _check(x, y, batch_size)
    sample, others = _split(len(x), gradient_samples, x.device)
    sums = torch.zeros(4, dtype=torch.float64, device=x.device)  # loss, correct, norm, norm squared
    with unchanged(model):
        for index in _batches(sample, batch_size):
            loss, correct, norms = _forward_backward(model, x[index], y[index])
            sums += torch.stack([loss, correct, norms.sum(), norms.square().sum()])
        with torch.inference_mode(), autocast(precision, x.device):
            for index in _batches(others, batch_size):
                loss, correct = _loss_and_correct(model(x[index]), y[index])
                sums[:2] += torch.stack([_total(loss), correct])
    n, k = len(x), len(x) if isinstance(sample, range) else len(sample)
    loss_sum, correct_sum, norm_sum, square_sum = sums.tolist()
    return Evaluation(loss_sum / n, correct_sum / n, norm_sum / k, (square_sum / k) ** 0.5)


def accuracy(model: nn.Module, x: Tensor, y: Tensor, batch_size: int, precision: str = "fp32") -> float:
    """The share of images x (N, C, H, W) whose largest logit is that of their label y (N,).

    `precision`: as in `evaluate`. ValueError without images.
    """
    _check(x, y, batch_size)
    correct = torch.zeros((), dtype=torch.float64, device=x.device)
    with unchanged(model), torch.inference_mode(), autocast(precision, x.device):
        for index in _batches(range(len(x)), batch_size):
            correct += _loss_and_correct(model(x[index]), y[index])[1]
    return correct.item() / len(x)


def gradient_norms(model: nn.Module, x: Tensor, y: Tensor, batch_size: int) -> Tensor:
    """(N,) float64: L2 norm of the gradient of each image's cross entropy w.r.t. its pixels."""
    _check(x, y, batch_size)
    with unchanged(model):
        parts = [_forward_backward(model, x[i], y[i])[2] for i in _batches(range(len(x)), batch_size)]
    return torch.cat(parts)


def quantiles(norms: Tensor, levels: Sequence[float] = LEVELS) -> dict[str, float]:
    """Level, as text, to the quantile of `norms` (N,), with linear interpolation.

    Level 1.0 is the maximum.
    """
    probabilities = torch.tensor(levels, dtype=torch.float64, device=norms.device)
    values: list[float] = torch.quantile(norms.double(), probabilities).tolist()
    return {str(float(level)): value for level, value in zip(levels, values, strict=True)}


def probe_indices(n: int, k: int, device: torch.device | str = "cpu") -> Tensor:
    """(min(k, n),) sorted indices of n images: a fixed choice, equal for every run and seed."""
    if k >= n:
        return torch.arange(n, device=device)
    return torch.randperm(n, generator=generator(0, "probe"))[:k].sort().values.to(device)


def _check(x: Tensor, y: Tensor, batch_size: int) -> None:
    if len(x) == 0 or len(x) != len(y):
        raise ValueError(f"cannot measure on {len(x)} images and {len(y)} labels")
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} must be at least 1")


def _split(n: int, sample: Tensor | None, device: torch.device) -> tuple[Tensor | range, Tensor | range]:
    if sample is None:
        return range(n), range(0)
    rest = torch.ones(n, dtype=torch.bool, device=device)
    rest[sample] = False
    others = rest.nonzero().squeeze(1)
    if len(sample) == 0 or len(others) + len(sample) != n:
        raise ValueError("the gradient sample must hold at least one index and none twice")
    return sample, others


def _batches(indices: Tensor | range, size: int) -> Iterator[Tensor | slice]:
    """Index batches; slices for a range, because they read the data without a copy."""
    for start in range(0, len(indices), size):
        stop = min(start + size, len(indices))
        yield slice(start, stop) if isinstance(indices, range) else indices[start:stop]


def _total(losses: Tensor) -> Tensor:
    return losses.sum(dtype=torch.float64)


def _loss_and_correct(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Cross entropy of each image (N,) and the number of right answers."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(logits, y, reduction="none"), (logits.argmax(dim=1) == y).sum(dtype=torch.float64)


def _forward_backward(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Summed loss, number of right answers and each image's gradient norm, float64.

    In evaluation mode no image's logits depend on another image: the gradient of the summed loss
    holds every image's own. Only x is differentiated, so that no weight gradients are computed.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        losses, correct = _loss_and_correct(model(x), y)
        (gradient,) = torch.autograd.grad(losses.sum(), x)
    norms = torch.linalg.vector_norm(gradient, dim=tuple(range(1, x.dim())), dtype=torch.float64)
    return _total(losses.detach()), correct, norms
