"""Optimizers, one file each.

This package imports all its modules, so that a new file registers itself.
"""

import importlib
import pkgutil
from collections.abc import Iterable
from typing import Any

from torch import nn

from sns.optim.base import OPTIMIZERS, Optimizer, OptimOptions, register

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["OPTIMIZERS", "OptimOptions", "Optimizer", "build", "register"]


def build(options: Any, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """The optimizer that `options` describes, for parameters already on their device."""
    return OPTIMIZERS[options.name](parameters, options)
