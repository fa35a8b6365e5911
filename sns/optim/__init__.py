"""Optimizers, one file each.

This package imports all its modules, so that a new file registers itself.
"""

from collections.abc import Iterable
from typing import Any

from torch import nn

from sns.common.registry import import_modules
from sns.optim.base import OPTIMIZERS, Optimizer, OptimOptions, register

import_modules(__name__)

__all__ = ["OPTIMIZERS", "OptimOptions", "Optimizer", "build", "register"]


def build(options: Any, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """The optimizer that `options` describes, for parameters already on their device."""
    return OPTIMIZERS[options.name](parameters, options)
