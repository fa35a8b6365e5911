"""The input size of each convolution of a network, from a forward pass."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from sns.common.accelerator import forked_rng


def input_sizes(model: nn.Module, image_shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Name of each convolution to the size of its input, such as (H, W), for images (C, H, W).

    One black image passes through a copy in evaluation mode, so that the model's weights, buffers,
    flags, gradients and random streams do not change. A convolution that the forward pass does not
    use is left out.
    """
    sizes: dict[str, tuple[int, ...]] = {}
    duplicate = copy.deepcopy(model).eval()
    first = next(duplicate.parameters())
    for name, module in duplicate.named_modules():

        def record(_: nn.Module, inputs: tuple[Tensor, ...], name: str = name) -> None:
            sizes[name] = tuple(inputs[0].shape[2:])

        if isinstance(module, _ConvNd):
            module.register_forward_pre_hook(record)
    with forked_rng([first.device]), torch.no_grad():
        duplicate(torch.zeros(1, *image_shape, device=first.device, dtype=first.dtype))
    return sizes
