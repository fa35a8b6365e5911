"""Measuring changes nothing: the guard that every measuring function runs inside, and a hash to
prove it."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Inside, `model` is in evaluation mode; at exit the training flags, random states and `.grad`
    are as before.

    Training flags are kept module by module, because a run may hold some modules in evaluation mode
    on purpose. The random states are torch's global ones, on the CPU and on the model's devices.
    The parameters' `.grad` are set aside and put back as the same objects, so that even a stray
    backward pass inside cannot add to them.
    """
    training = [(module, module.training) for module in model.modules()]
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    devices = {tensor.device for tensor in _tensors(model) if tensor.device.type == "cuda"}
    with torch.random.fork_rng(devices=sorted(devices, key=str)):
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


def state_hash(model: nn.Module) -> str:
    """SHA-256, as hex digits, of every parameter and buffer, bit by bit, and of every module's
    training flag."""
    digest = hashlib.sha256()
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        # uint8 view: bitwise for every dtype, NaN payloads and the sign of zero included
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    for name, module in model.named_modules():
        digest.update(f"{name} {module.training}".encode())
    return digest.hexdigest()
