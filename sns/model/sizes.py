"""The size of the images that each convolution of a network meets, found by asking the network."""

import copy

import torch
from torch import Tensor, nn


def input_sizes(model: nn.Module, image_shape: tuple[int, ...]) -> dict[str, tuple[int, int]]:
    """Name of each Conv2d to the (H, W) of its input when `model` is given images of `image_shape`
    (C, H, W).

    One black image goes through a copy in evaluation mode: weights, buffers, training flags,
    gradients and random streams of the model stay as they are. A convolution that takes no part in
    the forward pass is left out.
    """
    sizes: dict[str, tuple[int, int]] = {}
    shadow = copy.deepcopy(model).eval()
    first = next(shadow.parameters())
    for name, module in shadow.named_modules():

        def note(_: nn.Module, inputs: tuple[Tensor, ...], name: str = name) -> None:
            sizes[name] = (inputs[0].shape[-2], inputs[0].shape[-1])

        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(note)
    streams = [first.device] if first.device.type == "cuda" else []
    with torch.random.fork_rng(streams), torch.no_grad():
        shadow(torch.zeros(1, *image_shape, device=first.device, dtype=first.dtype))
    return sizes
