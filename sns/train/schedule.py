"""When updates happen, how large they are, and when to evaluate: plain arithmetic on step
numbers."""

import math

from sns.config.schema import OptimConfig


def total_steps(epochs: float, n: int, batch_size: int) -> int:
    """Updates in `epochs` passes over `n` images; batches are always full, so 300 epochs of 5,000
    at 4,096 are 366."""
    return max(1, math.floor(epochs * n / batch_size + 1e-9))


def evaluation_steps(epochs: float, every: float, n: int, batch_size: int) -> list[int]:
    """The steps after which to evaluate: the last one within each `every` epochs, without repeats,
    and the last of all.
    """
    total = total_steps(epochs, n, batch_size)
    steps = {math.floor(k * every * n / batch_size + 1e-9) for k in range(1, math.floor(epochs / every + 1e-9) + 1)}
    return sorted((steps - {0}) | {total})


def learning_rate(step: int, total: int, config: OptimConfig) -> float:
    """The rate of update `step` (from 0): times drop_factor once a fraction `drops` of all updates
    is done (section 4).
    """
    passed = sum(step >= drop * total for drop in config.drops)
    return config.lr * config.drop_factor**passed


def learning_rate_sum(steps: int, total: int, config: OptimConfig) -> float:
    """Sum of the rates of the first `steps` updates."""
    return math.fsum(learning_rate(step, total, config) for step in range(steps))
