"""Where a run trains, in which mode and in which memory format."""

import ctypes
import os
import shutil

import torch

from sns.common.errors import UserError
from sns.config.schema import TrainConfig


def choose_device(name: str, local: int | None = None) -> torch.device:
    """The device called `name`; auto is CUDA if there is a GPU. UserError if it does not exist.

    A CUDA device has its index always: torch.cuda.set_device refuses one without.

    `local`: number of this process on this machine, if several share the run; each uses its own
    GPU.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        name = f"cuda:{local or 0}"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"train.device={name} is unknown; choose auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"train.device={name} is not supported; choose auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"train.device={name} asks for a GPU, but {torch.cuda.device_count()} are visible; use train.device=cpu"
        )
    return device


def choose_mode(config: TrainConfig, device: torch.device, processes: int = 1) -> str:
    """eager | compile | graph; auto is graph on CUDA, else eager. UserError if it cannot run."""
    if config.mode == "auto":
        return "graph" if device.type == "cuda" and processes == 1 else "eager"
    if config.mode == "graph" and processes > 1:
        raise UserError("train.mode=graph captures the update of one process; use train.mode=auto for several")
    if config.mode == "graph" and device.type != "cuda":
        raise UserError(f"train.mode=graph needs a GPU, this run is on {device}; use train.mode=auto")
    if config.mode == "compile" and device.type == "cpu" and not _has_compiler():
        raise UserError("train.mode=compile needs a C++ compiler (g++, clang++ or $CXX); use train.mode=eager")
    return config.mode


def _has_compiler() -> bool:
    return any(shutil.which(name) for name in (os.environ.get("CXX", ""), "g++", "clang++") if name)


def choose_memory_format(config: TrainConfig, device: torch.device) -> torch.memory_format:
    """auto is channels_last where it is faster (bf16 anywhere, tf32 on a GPU), else contiguous."""
    wanted = config.memory_format
    if wanted == "auto":
        gains = config.precision == "bf16" or (config.precision == "tf32" and device.type == "cuda")
        wanted = "channels_last" if gains else "contiguous"
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
