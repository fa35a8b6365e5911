"""Checkpoints: everything that a resumed run needs, in a file with a checksum (sns.common.sealed).

A new file is written under a temporary name and renamed, and the previous checkpoint stays as
`PREVIOUS`.
"""

import io
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch

from sns.common.errors import UserError, first_line
from sns.common.files import atomic
from sns.common.sealed import read as read
from sns.common.sealed import seal
from sns.record.schema import CHECKPOINT

FILE, PREVIOUS = CHECKPOINT, "checkpoint.previous.pt"


class CannotSave(UserError):  # noqa: N818  reads well where it is raised and caught
    """A checkpoint could not be written; those on disk are unchanged."""


def save(directory: Path, state: dict[str, Any]) -> None:
    """Writes `state`: tensors, numbers, strings and containers of them.

    The checkpoint on disk becomes `PREVIOUS`, so that a complete one is on disk at every moment.
    CannotSave if the file cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    file = directory / FILE
    try:
        with atomic(file) as temporary:
            with temporary.open("wb") as out:
                out.write(buffer.getbuffer())
                out.write(seal(buffer.getbuffer()))
                out.flush()  # the previous checkpoint is replaced only once the new one is safely on disk
                os.fsync(out.fileno())
            _link_previous(file)
    except OSError as error:
        free = f"{shutil.disk_usage(directory).free / 1e6:,.0f} MB free" if directory.is_dir() else "no such folder"
        raise CannotSave(
            f"{file} cannot be written ({error.strerror or first_line(error)}; {free}): "
            "make room, then the same command resumes from the checkpoint before it"
        ) from None


def _link_previous(file: Path) -> None:
    """Gives the present checkpoint the second name `PREVIOUS`; a new file then takes the first."""
    if not file.is_file():
        return
    second = file.with_name(f".{PREVIOUS}.{os.getpid()}.tmp")
    second.unlink(missing_ok=True)
    try:
        os.link(file, second)
    except OSError:  # a file system without hard links: for an instant only `PREVIOUS` exists
        second = file
    second.replace(file.with_name(PREVIOUS))


def exists(directory: Path) -> bool:
    """Whether there is a checkpoint to resume from."""
    return any((directory / name).is_file() for name in (FILE, PREVIOUS))


def tidy(directory: Path, keep: bool) -> None:
    """At the end of a run: leaves the final checkpoint only, or none unless `keep`."""
    for name in (PREVIOUS,) if keep else (FILE, PREVIOUS):
        (directory / name).unlink(missing_ok=True)


def load(directory: Path) -> dict[str, Any] | None:
    """The newest intact state, tensors on the CPU; None if there is none.

    A damaged file is renamed to *.damaged, with a warning that says what the run resumes from
    instead. UserError if a file cannot be read at all: it may still be intact.
    """
    for name in (FILE, PREVIOUS):
        file = directory / name
        if not file.is_file():
            continue
        try:
            return read(file)
        except OSError as error:
            raise UserError(
                f"{file} cannot be read ({error.strerror or first_line(error)}): "
                "make it readable for this user, or name another folder by results=... to start over"
            ) from None
        except Exception as error:  # any fault of the file means the same here
            left = name == FILE and (directory / PREVIOUS).is_file()
            then = "the run resumes from the checkpoint before it" if left else "the run starts over"
            warnings.warn(f"{file} is damaged ({first_line(error)}): set aside; {then}", stacklevel=2)
            file.replace(file.with_name(name + ".damaged"))
    return None
