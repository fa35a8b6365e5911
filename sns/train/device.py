"""Where a run trains, in which mode and in which memory format."""

import ctypes
import os
import shutil

import torch

from sns.common.errors import UserError
from sns.config.schema import TrainConfig


def choose_device(name: str, local: int | None = None) -> torch.device:
    """auto is CUDA where there is one; UserError where a device is asked for that is not there.

    `local`: of several processes on this machine, which one this is; each takes its own GPU.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and local is not None:
        name = f"cuda:{local}"
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
    """eager | compile | graph; auto is graph on CUDA and eager elsewhere. UserError where a mode
    cannot run here."""
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
    """auto is channels_last where matrix units want it (bf16 anywhere, tf32 on a GPU), else
    contiguous."""
    wanted = config.memory_format
    if wanted == "auto":
        gains = config.precision == "bf16" or (config.precision == "tf32" and device.type == "cuda")
        wanted = "channels_last" if gains else "contiguous"
    return torch.channels_last if wanted == "channels_last" else torch.contiguous_format


TRIM_THRESHOLD, MMAP_MAX = -1, -4  # parameters of glibc's mallopt


def keep_freed_memory() -> None:
    """Lets this process keep the host memory that it frees, where the C library is glibc.

    By default every large tensor is mapped afresh from the kernel, page by page, and handed back
    when it is freed: on a CPU up to a quarter of a training step, half of an evaluation. The
    process holds its peak until it ends.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # not glibc
        return
    mallopt(MMAP_MAX, 0)
    mallopt(TRIM_THRESHOLD, 2**31 - 1)
