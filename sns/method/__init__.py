"""Training problems, one file each. Every module of this package is imported, so a new file
registers itself."""

from typing import Any

import torch
from torch import nn

from sns.common.registry import import_modules
from sns.method.base import METHODS, Method, register

import_modules(__name__)

__all__ = ["METHODS", "Method", "build", "register"]


def build(options: Any, model: nn.Module, generator: torch.Generator) -> Method:
    """The method that `options` (a dataclass such as SpectralOptions) describes, for a model
    already on its device."""
    return METHODS[options.name](options, model, generator)
