"""Training methods, one file each.

This package imports all its modules, so that a new file registers itself.
"""

from typing import Any

import torch
from torch import nn

from sns.common.registry import import_modules
from sns.method.base import METHODS, Method, register

import_modules(__name__)

__all__ = ["METHODS", "Method", "build", "register", "strengths"]


def strengths() -> dict[str, str]:
    """For each method the option that says how strong it is; "" where it has none."""
    return {name: getattr(method.Config, "strength", "") for name, method in METHODS.items()}


def build(options: Any, model: nn.Module, generator: torch.Generator) -> Method:
    """The method that `options`, such as SpectralOptions, describes, for a model on its device."""
    return METHODS[options.name](options, model, generator)
