"""Training methods, one file each.

This package imports all its modules, so that a new file registers itself.
"""

import importlib
import pkgutil
from typing import Any

import torch
from torch import nn

from sns.method.base import METHODS, Method, register

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["METHODS", "Method", "build", "register"]


def build(options: Any, model: nn.Module, generator: torch.Generator) -> Method:
    """The method that `options`, such as SpectralOptions, describes, for a model on its device."""
    return METHODS[options.name](options, model, generator)
