"""A hash of a model that shows every change."""

import hashlib

import torch
from torch import nn


def state_hash(model: nn.Module) -> str:
    """SHA-256 of every parameter and buffer, bit by bit, and of every module's training flag."""
    digest = hashlib.sha256()
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        # uint8 view: bitwise for every dtype, NaN payloads and the sign of zero included
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    for name, module in model.named_modules():
        digest.update(f"{name} {module.training}".encode())
    return digest.hexdigest()
