"""Where a run trains, in which mode and in which memory format."""

import ctypes
import os
import shutil

import torch

from sns.common import accelerator
from sns.common.errors import UserError
from sns.config.schema import TrainConfig


def choose_device(name: str, local: int | None = None) -> torch.device:
    """The device called `name`, a GPU with its index. UserError if it does not exist.

    auto is a GPU if there is one that can capture the update as a graph, else the CPU. `local`:
    number of this process on this machine, if several share the run; each uses its own GPU.
    """
    here = accelerator.here()
    try:
        device = torch.device((here.kind() if here.captures else "cpu") if name == "auto" else name)
    except RuntimeError:
        raise UserError(f"train.device={name} is unknown; choose auto, cpu, cuda or cuda:N") from None
    if device.type == "cpu":
        return torch.device("cpu")
    index, visible = (local or 0) if device.index is None else device.index, accelerator.visible(device.type)
    if index >= visible:
        raise UserError(
            f"train.device={name} asks for device {index} (from 0) of type {device.type}, but {visible} are visible; "
            "use train.device=cpu or fewer processes"
        )
    return here.at(index)


def choose_mode(config: TrainConfig, device: torch.device, processes: int = 1) -> str:
    """eager | compile | graph; auto is graph on a GPU that can capture one, else eager.

    UserError if the mode cannot run.
    """
    if config.mode == "auto":
        return "graph" if accelerator.of(device).captures and processes == 1 else "eager"
    if config.mode == "graph" and processes > 1:
        raise UserError("train.mode=graph captures the update of one process; use train.mode=auto for several")
    if config.mode == "graph" and not accelerator.of(device).captures:
        raise UserError(f"train.mode=graph needs a CUDA GPU, this run is on {device}; use train.mode=auto")
    if config.mode == "compile" and accelerator.of(device).host and not _has_compiler():
        raise UserError("train.mode=compile needs a C++ compiler (g++, clang++ or $CXX); use train.mode=eager")
    return config.mode


def _has_compiler() -> bool:
    return any(shutil.which(name) for name in (os.environ.get("CXX", ""), "g++", "clang++") if name)


def choose_memory_format(config: TrainConfig, device: torch.device) -> torch.memory_format:
    """auto is channels_last where it is faster (all but fp32 on a GPU), else contiguous."""
    wanted = config.memory_format
    if wanted == "auto":
        loses = config.precision == "fp32" and not accelerator.of(device).host
        wanted = "contiguous" if loses else "channels_last"
    return torch.channels_last if wanted == "channels_last" else torch.contiguous_format


TRIM_THRESHOLD, MMAP_MAX = -1, -4  # parameters of glibc's mallopt


def keep_freed_memory() -> None:
    """Lets this process reuse the host memory that it frees, if the C library is glibc.

    By default glibc maps memory for every large tensor, page by page, and returns it to the kernel
    when it is freed. On a CPU this takes up to a quarter of a training step and half of an
    evaluation. In return the process holds its peak memory until it ends.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # not glibc
        return
    mallopt(MMAP_MAX, 0)
    mallopt(TRIM_THRESHOLD, 2**31 - 1)
