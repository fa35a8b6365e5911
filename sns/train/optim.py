"""Nesterov SGD (section 4)."""

import torch
from torch import nn

from sns.config import OptimConfig
from sns.train.schedule import learning_rate


def build(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """SGD over all parameters. Weight decay belongs to the method (equation 2), never to the optimizer."""
    return torch.optim.SGD(
        model.parameters(), lr=config.lr, momentum=config.momentum, nesterov=config.nesterov, dampening=0.0, fused=True
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, step: int, total: int, config: OptimConfig) -> float:
    """Sets the rate of update `step` on every parameter group and returns it."""
    rate = learning_rate(step, total, config)
    for group in optimizer.param_groups:
        group["lr"] = rate
    return rate
