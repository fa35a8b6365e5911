"""The input size of each convolution of a network, from a forward pass."""

import copy

import torch
from torch import Tensor, nn

from sns.common.accelerator import forked_rng


def input_sizes(model: nn.Module, image_shape: tuple[int, ...]) -> dict[str, tuple[int, int]]:
    """Name of each Conv2d to the (H, W) of its input, for images of `image_shape` (C, H, W).

    One black image passes through a copy in evaluation mode, so that the model's weights, buffers,
    flags, gradients and random streams do not change. A convolution that the forward pass does not
    use is left out.
    """
    sizes: dict[str, tuple[int, int]] = {}
    duplicate = copy.deepcopy(model).eval()
    first = next(duplicate.parameters())
    for name, module in duplicate.named_modules():

        def record(_: nn.Module, inputs: tuple[Tensor, ...], name: str = name) -> None:
            sizes[name] = (inputs[0].shape[-2], inputs[0].shape[-1])

        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(record)
    with forked_rng([first.device]), torch.no_grad():
        duplicate(torch.zeros(1, *image_shape, device=first.device, dtype=first.dtype))
    return sizes
