"""The networks of both papers, one file each. Every module of this package is imported, so a new
file registers itself."""

from functools import partial
from typing import Any

import torch
from torch import nn

from sns.common.registry import import_modules
from sns.model.base import MODELS, register
from sns.model.init import initialize

import_modules(__name__)

__all__ = ["MODELS", "build", "register"]


def build(
    options: Any, channels: int, image_size: int, classes: int, ghost: int | None, generator: torch.Generator
) -> nn.Module:
    """The network that `options` (a dataclass such as VGGConfig) describes, on the CPU.

    `channels`, `image_size`: C and H = W of its images; `ghost`: images that share batch-norm
    statistics (None: all). Initialised from `generator`, by its own `initialize` where it has one.
    ConfigError where images are too small.
    """
    model: nn.Module = MODELS[options.name](options, channels, image_size, classes, ghost)
    getattr(model, "initialize", partial(initialize, model))(generator)
    return model
