"""Numerical precision: true fp32, TensorFloat-32, or bfloat16 by autocast."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch


@contextmanager
def _switches(matmul: bool, convolution: bool) -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, convolution
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def training_precision(name: str) -> AbstractContextManager[None]:
    """For a whole run: tf32 allows TensorFloat-32 on CUDA, fp32 and bf16 forbid it.

    cuDNN allows it by default. In bf16 what is outside autocast stays true fp32: the penalty, the
    optimizer and every measurement.
    """
    return _switches(name == "tf32", name == "tf32")


def autocast(name: str, device: torch.device) -> AbstractContextManager[object]:
    """For a forward pass: bfloat16 if `name` is bf16, else no change."""
    return torch.autocast(device.type, torch.bfloat16) if name == "bf16" else nullcontext()


@contextmanager
def fastest_kernels() -> Iterator[None]:
    """Inside, cuDNN times its kernels once for each new shape and takes the fastest.

    Only training repeats one shape often enough to gain. A user who asks for deterministic kernels
    gets no search.
    """
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = not torch.backends.cudnn.deterministic
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Inside, matrix products on `device` are true fp32, whatever the training precision."""
    if device.type == "cpu":
        with torch.autocast("cpu", enabled=False):
            yield
        return
    with _switches(False, False), torch.autocast(device.type, enabled=False):
        yield
