"""Checkpoints: everything a resumed run needs, written aside and renamed, read back without running any code."""

import warnings
from pathlib import Path
from typing import Any

import torch

from sns.record.store import atomic

FILE = "checkpoint.pt"


def save(directory: Path, state: dict[str, Any]) -> None:
    """Writes `state` (tensors, numbers, strings and containers of them) atomically."""
    with atomic(directory / FILE) as aside:
        torch.save(state, aside)


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
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        warnings.warn(f"{file} is damaged ({reason}): set aside, the run starts over", stacklevel=2)
        return None
    return state
