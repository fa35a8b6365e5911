"""The environment of a run: versions, device and commit."""

import os
import platform
import resource
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from sns.common import accelerator
from sns.common.memory import runs_together
from sns.record.commit import commit

PACKAGES = ("torch", "torchvision", "numpy", "hydra-core", "omegaconf", "pandas", "scipy")


def describe(device: torch.device) -> dict[str, Any]:
    """Versions, device, threads and the commit of the code, as plain values."""
    there = accelerator.of(device)
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": {name: _version(name) for name in PACKAGES},
        "device": there.name() or _processor(),
        "device_type": there.kind(),
        "threads": torch.get_num_threads(),
        **there.versions(),
        **commit(),
    }


def peak_memory(device: torch.device) -> dict[str, float | None]:
    """`peak_bytes` of torch on an accelerator, and `peak_host_bytes`.

    The first is None on the CPU, and where the process trains several runs, which it cannot tell
    apart.
    """
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
    own = accelerator.of(device).peak_bytes() if runs_together() == 1 else None
    return {"peak_bytes": own, "peak_host_bytes": host}


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
