"""Initial weights as in Chainer: N(0, 1 / fan_in); biases 0; batch norm the identity."""

import math

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd


@torch.no_grad()
def initialize(model: nn.Module, generator: torch.Generator) -> None:
    """Draws the weight of every convolution and linear layer from `generator`.

    On the CPU, so that a seed gives the same weights on any device. Other layers, and a
    parametrised weight, keep what their constructor drew.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear | _ConvNd) and "weight" in module._parameters:
            fan_in = (module.weight[:, 0] if isinstance(module, _ConvTransposeNd) else module.weight[0]).numel()
            drawn = torch.randn(module.weight.shape, generator=generator) / math.sqrt(fan_in)
            module.weight.copy_(drawn)
            if module.bias is not None:
                module.bias.zero_()
