"""Training problems, one file each. Every module of this package is imported, so a new file
registers itself."""

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
    """The method that `options` (a dataclass such as SpectralOptions) describes, for a model
    already on its device."""
    return METHODS[options.name](options, model, generator)
