"""Checkpoints: everything a resumed run needs, written aside and renamed, read back without running any code."""

import shutil
import warnings
from pathlib import Path
from typing import Any

import torch

from sns.errors import UserError, first_line
from sns.record.store import atomic

FILE = "checkpoint.pt"


def save(directory: Path, state: dict[str, Any]) -> None:
    """Writes `state` (tensors, numbers, strings and containers of them) atomically.

    UserError where it cannot be written; the checkpoint before it stays.
    """
    try:
        with atomic(directory / FILE) as aside:
            torch.save(state, aside)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError of its zip writer
        free = shutil.disk_usage(directory).free / 1e6 if directory.is_dir() else 0.0
        raise UserError(
            f"{directory / FILE} cannot be written ({first_line(error)}; {free:,.0f} MB free): "
            "make room, then the same command goes on from the checkpoint before it"
        ) from None


def load(directory: Path) -> dict[str, Any] | None:
    """The saved state with tensors on the CPU, or None where there is none.

    A damaged file is set aside as checkpoint.pt.damaged with a warning, and the run starts over.
    """
    file = directory / FILE
    if not file.is_file():
        return None
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise ValueError("it holds no state")
    except Exception as error:  # any fault of the file means the same here
        file.replace(file.with_name(FILE + ".damaged"))
        warnings.warn(f"{file} is damaged ({first_line(error)}): set aside, the run starts over", stacklevel=2)
        return None
    return state
