"""The learning rate of each update: plain arithmetic on update numbers."""

import math

from sns.optim import OptimOptions


def learning_rate(step: int, total: int, options: OptimOptions) -> float:
    """The rate of update `step`, counted from 0 (section 4).

    It is multiplied by `drop_factor` at each fraction in `drops` of all `total` updates.
    """
    passed = sum(step >= drop * total for drop in options.drops)
    return options.lr * options.drop_factor**passed


def learning_rate_sum(steps: int, total: int, options: OptimOptions) -> float:
    """Sum of the rates of the first `steps` updates."""
    return math.fsum(learning_rate(step, total, options) for step in range(steps))
