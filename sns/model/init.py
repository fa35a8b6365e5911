"""Initial weights as in Chainer: N(0, 1 / fan_in); biases 0; batch norm the identity."""

import math

import torch
from torch import nn


@torch.no_grad()
def initialize(model: nn.Module, generator: torch.Generator) -> None:
    """Draws every Conv2d and Linear weight from `generator`.

    On the CPU, so that a seed gives the same weights on any device.
    """
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            fan_in = module.weight[0].numel()
            drawn = torch.randn(module.weight.shape, generator=generator) / math.sqrt(fan_in)
            module.weight.copy_(drawn)
            if module.bias is not None:
                module.bias.zero_()
