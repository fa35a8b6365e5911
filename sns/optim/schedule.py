"""The learning rate of each update, and the strength of a penalty that follows from a dose.

Plain arithmetic on update numbers.
"""

import math
from dataclasses import replace
from typing import Any

from sns.common.errors import ConfigError
from sns.optim.base import OptimOptions


def learning_rate(step: int, total: int, options: OptimOptions) -> float:
    """The rate of update `step`, counted from 0 (section 4).

    It is multiplied by `drop_factor` at each fraction in `drops` of all `total` updates. From the
    fraction `decay_from` on it also falls in a line, to 0 after the last update.
    """
    passed = sum(step >= drop * total for drop in options.drops)
    rate = options.lr * options.drop_factor**passed
    if options.decay_from is not None and step > options.decay_from * total:
        rate *= (total - step) / (total * (1.0 - options.decay_from))
    return rate


def learning_rate_sum(steps: int, total: int, options: OptimOptions) -> float:
    """Sum of the rates of the first `steps` updates."""
    return math.fsum(learning_rate(step, total, options) for step in range(steps))


def at_dose(penalty: Any, optim: OptimOptions, updates: int) -> Any:
    """`penalty`, options with `Strength`, with the factor that gives its dose in `updates` updates.

    Options without a dose are returned as they are. lambda = dose / dose at lambda = 1. ConfigError
    for an optimizer that has no dose.
    """
    dose = getattr(penalty, "dose", None)
    if dose is None:
        return penalty
    unit = optim.dose(1.0, learning_rate_sum(updates, updates, optim))
    if unit is None:
        raise ConfigError(f"method.dose={dose} needs an optimizer with a dose, and optim={optim.name} has none")
    return replace(penalty, dose=None, factor=dose / unit)
