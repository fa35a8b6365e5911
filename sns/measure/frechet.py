"""Scores of generated images from the features and logits of a network, whatever the network.

With the Inception network of 2015, the Frechet distance is the FID (Heusel et al. 2017, arXiv
1706.08500) and the class score is the inception score (Salimans et al. 2016, arXiv 1606.03498).
With another network they are neither, and their values compare with none published.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Gaussian:
    """Mean (D,) and covariance (D, D), divided by n - 1, of `count` features; float64."""

    count: int
    mean: Tensor
    covariance: Tensor


class Moments:
    """Accumulates the mean and the covariance of features, a pass at a time.

    Passes are merged by deviations from their own means (Chan et al. 1983), so that features far
    from zero lose no digits.
    """

    def __init__(self) -> None:
        self.count = 0
        self._mean = self._scatter = torch.zeros(())

    def add(self, features: Tensor) -> None:
        """Features (N, D) of the next pass."""
        if len(features) == 0:
            return
        x, n = features.double(), len(features)
        mean = x.mean(dim=0)
        centred = x - mean
        scatter = centred.T @ centred
        if self.count:
            shift = mean - self._mean
            scatter += self._scatter + torch.outer(shift, shift) * (self.count * n / (self.count + n))
            mean = self._mean + shift * (n / (self.count + n))
        self.count, self._mean, self._scatter = self.count + n, mean, scatter

    def gaussian(self) -> Gaussian:
        """The moments so far. ValueError with fewer than two features."""
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 features, got {self.count}")
        return Gaussian(self.count, self._mean, self._scatter / (self.count - 1))


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """The squared Frechet distance |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)) (equation 6 of
    Heusel et al.), in squared units of the features.

    tr (C_a C_b)^(1/2) is the sum of singular values of C_a^(1/2) C_b^(1/2). Each root comes from
    the eigenvalues of a symmetric matrix, so that singular covariances need no special case.
    ValueError if the numbers of features differ.
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"features of {len(a.mean)} and {len(b.mean)} numbers have no distance")
    overlap = torch.linalg.svdvals(_root(a.covariance) @ _root(b.covariance)).sum()
    distance = (a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace() - 2 * overlap
    return max(float(distance), 0.0)  # equal Gaussians may give a negative rounding error


def _root(covariance: Tensor) -> Tensor:
    """The symmetric root of a positive semi-definite matrix (D, D).

    Its zero eigenvalues may come out as negative rounding errors.
    """
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root


def class_score(logits: Tensor, repeats: int = 1) -> tuple[float, float | None]:
    """exp of the mean KL(p(y|x) || p(y)) over images: mean and standard deviation over parts.

    Logits (N, K) are cut into `repeats` equal parts; p(y) is the mean of a part. A part's score
    lies between 1 (the same p(y|x) for all) and K (each class certain, and as frequent as the
    others). The deviation has repeats - 1 in the denominator, and is None for one repeat.
    ValueError unless `repeats` divides N.
    """
    if len(logits) == 0 or repeats < 1 or len(logits) % repeats:
        raise ValueError(f"{len(logits)} images cannot be cut into {repeats} equal parts")
    scores = torch.stack([_score(part.double()) for part in logits.chunk(repeats)])
    return scores.mean().item(), scores.std().item() if repeats > 1 else None


def _score(logits: Tensor) -> Tensor:
    logs = logits.log_softmax(dim=1)
    p = logs.exp()
    marginal = torch.logsumexp(logs, dim=0) - math.log(len(logs))
    return (p * (logs - marginal)).sum(dim=1).mean().exp()
