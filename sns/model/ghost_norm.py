"""Batch normalisation with statistics over groups of a fixed number of images ("ghost" batches).

At B = 4096 the GPUs of 2017 could not hold one forward pass, so that the paper's statistics must be
those of parts of the batch. The group size is an option (`batch.ghost`); a batch that is split over
passes or devices keeps the same groups.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

EPS = 2e-5  # default of Chainer, the authors' framework
MOMENTUM = 0.1  # weight of the newest statistics; Chainer calls it decay = 0.9


class Standardized(NamedTuple):
    """Channels with mean 0 and variance 1 in each group, and what they had before."""

    x: Tensor  # (N, C, H, W)
    means: Tensor  # (groups, C)
    variances: Tensor  # (groups, C), unbiased

    def append(self, other: "Standardized") -> "Standardized":
        """The channels of both."""
        return Standardized(*(torch.cat(pair, dim=1) for pair in zip(self, other, strict=True)))


class GhostBatchNorm2d(nn.BatchNorm2d):
    """Batch norm over (N, C, H, W), or (N, C) as H = W = 1, each `ghost` consecutive images apart.

    In training mode N must be a multiple of `ghost` (else ValueError). A batch of at most `ghost`
    images, or any with `ghost` None, is one group. The running statistics move once a group, in
    order: one pass over a batch and several passes over its parts give the same buffers.

    A pass of several groups copies every activation twice, since no kernel normalises groups of
    images apart: `batch.micro` equal to `batch.ghost` avoids the copies, with more passes.
    """

    def __init__(self, features: int, ghost: int | None = None) -> None:
        super().__init__(features, eps=EPS, momentum=MOMENTUM)
        self.ghost = ghost

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as x."""
        if not self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        groups = self._groups(len(x))
        if groups == 1:
            return self._normalize(x)
        return torch.cat([self._normalize(part) for part in x.chunk(groups)])

    def standardize(self, x: Tensor) -> Standardized:
        """The part of a training-mode pass that needs no parameter of this layer: layers of one
        `ghost` can share it, each with its own `rescale`."""
        groups = self._groups(len(x))
        means, variances = (x.new_zeros(groups, x.shape[1], dtype=self.weight.dtype) for _ in range(2))
        parts = [
            F.batch_norm(part, means[i], variances[i], training=True, momentum=1.0, eps=self.eps)
            for i, part in enumerate(x.chunk(groups))
        ]
        return Standardized(parts[0] if groups == 1 else torch.cat(parts), means, variances)

    def rescale(self, known: Standardized) -> Tensor:
        """`forward(x)` in training mode for known = standardize(x), to rounding."""
        running = [buffer for buffer in (self.running_mean, self.running_var) if buffer is not None]
        if self.track_running_stats:
            for new in zip(known.means, known.variances, strict=True):
                torch._foreach_lerp_(running, new, self.momentum or 0.0)
        zero, one = torch.zeros_like(self.weight), torch.ones_like(self.weight)
        return F.batch_norm(known.x, zero, one, self.weight, self.bias, eps=0.0)

    def _groups(self, n: int) -> int:
        if self.ghost is None or n <= self.ghost:
            return 1
        if n % self.ghost:
            raise ValueError(f"a pass of {n} images is not a multiple of ghost={self.ghost}")
        return n // self.ghost

    def _normalize(self, x: Tensor) -> Tensor:
        mean, variance = (self.running_mean, self.running_var) if self.track_running_stats else (None, None)
        return F.batch_norm(x, mean, variance, self.weight, self.bias, True, self.momentum or 0.0, self.eps)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() not in (2, 4):
            raise ValueError(f"expected (N, C) or (N, C, H, W), got {tuple(input.shape)}")


@contextmanager
def frozen_running_statistics(model: nn.Module) -> Iterator[None]:
    """Inside, training-mode passes use batch statistics but do not move the running ones.

    This holds for torch's own batch norm too.
    """
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True
