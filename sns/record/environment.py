"""The environment of a run: versions, device and commit."""

import os
import platform
import resource
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from sns.record.commit import commit

PACKAGES = ("torch", "torchvision", "numpy", "hydra-core", "omegaconf", "pandas", "scipy")


def describe(device: torch.device) -> dict[str, Any]:
    """Versions, device, threads and the commit of the code, as plain values."""
    cuda = device.type == "cuda"
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": {name: _version(name) for name in PACKAGES},
        "device": torch.cuda.get_device_name(device) if cuda else _processor(),
        "device_type": device.type,
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda if cuda else None,
        "cudnn": torch.backends.cudnn.version() if cuda else None,
        **commit(),
    }


def peak_memory(device: torch.device) -> dict[str, float | None]:
    """`peak_bytes` of torch on a CUDA device, None on the CPU, and `peak_host_bytes`."""
    allocated = float(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else None
    return {"peak_bytes": allocated, "peak_host_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return f"{line.split(':', 1)[1].strip()} ({os.cpu_count()} logical cores)"
    except OSError:
        pass
    return f"{platform.processor() or platform.machine()} ({os.cpu_count()} logical cores)"
