"""Free memory of the host and of a device, checked before a data set is read or moved."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from sns.common import accelerator
from sns.common.errors import DataError

GB = 1e9
GROUPS, MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")  # Linux control groups, as batch systems set


def available_host_bytes() -> int | None:
    """Host memory that this process and its control group may still use; None if unknown."""
    limits = [value for value in (_machine_bytes(), _group_bytes()) if value is not None]
    return min(limits) if limits else None


def _machine_bytes() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _group_bytes() -> int | None:
    """What the tightest control group leaves. Cached files do not count as used."""
    try:
        lines = MEMBERSHIP.read_text().splitlines()
    except OSError:
        return None
    left: list[int] = []
    for hierarchy, controllers, place in (line.split(":", 2) for line in lines):
        if hierarchy == "0":
            left += _groups_left(GROUPS, place, "memory.max", "memory.current")
        elif controllers == "memory":  # version 1
            left += _groups_left(GROUPS / "memory", place, "memory.limit_in_bytes", "memory.usage_in_bytes")
    return min(left, default=None)


def _groups_left(root: Path, place: str, limit_file: str, used_file: str) -> Iterator[int]:
    group = Path(place)
    for folder in (root / part.relative_to("/") for part in (group, *group.parents)):
        try:
            limit, used = (int((folder / name).read_text()) for name in (limit_file, used_file))
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):  # no such file here, or the limit is the word "max"
            continue
        yield limit - used + int(stat.get("inactive_file", 0)) + int(stat.get("active_file", 0))


def available_device_bytes(device: torch.device) -> int | None:
    """Memory that tensors on `device` may still use; None if unknown."""
    there = accelerator.of(device)
    return available_host_bytes() if there.host else there.free_bytes()


_together = 1


@contextmanager
def shared_by(runs: int) -> Iterator[None]:
    """Inside, this process trains so many runs in turns, which share the memory of the device."""
    global _together
    before, _together = _together, runs
    try:
        yield
    finally:
        _together = before


def runs_together() -> int:
    """How many runs this process trains in turns."""
    return _together


def room_of_a_run(device: torch.device) -> int | None:
    """Memory that the tensors of one run may still use on `device`; None if unknown.

    With several runs it is an equal part: what the graph of another run uses between two of its
    updates is held, but does not show as used.
    """
    free = available_device_bytes(device)
    return None if free is None else free // _together


def require_host(needed: int, what: str) -> None:
    """DataError unless `needed` bytes of host memory are free to read `what`."""
    _require(needed, available_host_bytes(), what, "host memory")


def require_device(needed: int, device: torch.device, what: str) -> None:
    """DataError unless `needed` bytes are free on `device` for `what`."""
    _require(
        needed, available_device_bytes(device), what, "host memory" if device.type == "cpu" else f"memory of {device}"
    )


def _require(needed: int, available: int | None, what: str, place: str) -> None:
    if available is not None and needed > available:
        raise DataError(
            f"{what} needs {needed / GB:.3g} GB of {place} but {max(available, 0) / GB:.3g} GB are free; "
            "use fewer images with data.subset and data.test_subset, or a larger machine"
        )
