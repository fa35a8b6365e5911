"""The learning rate of each update: plain arithmetic on update numbers."""

import math

from sns.optim import OptimOptions


def learning_rate(step: int, total: int, options: OptimOptions) -> float:
    """The rate of update `step` (from 0): times drop_factor once a fraction `drops` of all updates
    is done (section 4)."""
    passed = sum(step >= drop * total for drop in options.drops)
    return options.lr * options.drop_factor**passed


def learning_rate_sum(steps: int, total: int, options: OptimOptions) -> float:
    """Sum of the rates of the first `steps` updates."""
    return math.fsum(learning_rate(step, total, options) for step in range(steps))
