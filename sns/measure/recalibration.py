"""Batch-norm statistics taken anew without dropout, to see what the running ones hide.

Dropout before a batch norm raises the variance that its running statistics hold; in evaluation mode
there is no dropout, and the layer divides by a deviation that is too large (variance shift,
arXiv 1801.05134).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sns.measure.state import unchanged
from sns.model.ghost_norm import GhostBatchNorm2d

PASS = 250  # images whose statistics are taken together, at most


@contextmanager
def recalibrated(model: nn.Module, x: Tensor, batch_size: int) -> Iterator[None]:
    """Inside, batch norm's running statistics are those of images x (N, C, H, W) without dropout.

    They are means over passes of at most `PASS` images, and at most `batch_size`. At exit the model
    is as before. ValueError without images.
    """
    if len(x) == 0:
        raise ValueError("cannot take statistics of no images")
    layers = _layers(model)
    before = [(buffer, buffer.clone()) for layer in layers for buffer in layer.buffers(recurse=False)]
    try:
        _calibrate(model, layers, x, min(batch_size, PASS))
        yield
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)  # in place, since a captured update holds its address


def _calibrate(model: nn.Module, layers: list[_BatchNorm], x: Tensor, size: int) -> None:
    settings = [(layer.momentum, getattr(layer, "ghost", None)) for layer in layers]
    with unchanged(model), torch.no_grad():
        try:
            for layer in layers:
                layer.training = True
                if isinstance(layer, GhostBatchNorm2d):
                    layer.ghost = None
            for number, part in enumerate(x.split(size)):
                for layer in layers:
                    layer.momentum = 1 / (number + 1)  # the mean over the passes so far
                model(part)
        finally:
            for layer, (momentum, ghost) in zip(layers, settings, strict=True):
                layer.momentum = momentum
                if isinstance(layer, GhostBatchNorm2d):
                    layer.ghost = ghost


def _layers(model: nn.Module) -> list[_BatchNorm]:
    return [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
