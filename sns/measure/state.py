"""Measuring changes nothing: the guard that every measuring function uses."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from sns.common.accelerator import forked_rng


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Inside, `model` is in evaluation mode; at exit, its state is as before.

    Training flags are restored module by module, because a run may hold some modules in evaluation
    mode. The random states are torch's global ones, on the CPU and on the model's devices. The
    parameters' `.grad` are replaced by None and put back as the same objects, so that a stray
    backward pass inside cannot add to them.
    """
    training = [(module, module.training) for module in model.modules()]
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    with forked_rng({tensor.device for tensor in _tensors(model)}):
        try:
            model.eval()
            for parameter, _ in gradients:
                parameter.grad = None
            yield
        finally:
            for module, flag in training:
                module.training = flag
            for parameter, gradient in gradients:
                parameter.grad = gradient


def _tensors(model: nn.Module) -> Iterator[torch.Tensor]:
    yield from model.parameters()
    yield from model.buffers()
