"""Checkpoints: everything a resumed run needs, sealed with a checksum, written aside and renamed,
the one before kept.

A checkpoint file is what torch.save writes, followed by `SEAL` and the SHA-256 of all before it;
torch.load reads it too. Reading runs no code of the file's and believes nothing whose checksum is
wrong.
"""

import hashlib
import io
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch

from sns.common.errors import UserError, first_line
from sns.common.files import atomic

FILE, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"
SEAL = b"sns-sealed-1"
DIGEST = hashlib.sha256().digest_size


class CannotSave(UserError):  # noqa: N818  says what it is at the place of use
    """A checkpoint could not be written; the ones on disk are as before."""


def save(directory: Path, state: dict[str, Any]) -> None:
    """Writes `state` (tensors, numbers, strings and containers of them); the checkpoint before
    becomes `PREVIOUS`.

    At every moment at least one whole checkpoint is on disk once there was one. CannotSave where it
    cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    file = directory / FILE
    try:
        with atomic(file) as aside:
            with aside.open("wb") as out:
                out.write(buffer.getbuffer())
                out.write(SEAL + hashlib.sha256(buffer.getbuffer()).digest())
                out.flush()  # only a checkpoint that is safely on disk pushes the one before back
                os.fsync(out.fileno())
            _keep(file)
    except OSError as error:
        free = f"{shutil.disk_usage(directory).free / 1e6:,.0f} MB free" if directory.is_dir() else "no such folder"
        raise CannotSave(
            f"{file} cannot be written ({error.strerror or first_line(error)}; {free}): "
            "make room, then the same command goes on from the checkpoint before it"
        ) from None


def _keep(file: Path) -> None:
    """Gives the present checkpoint its second name; the first one stays until the new file takes
    it."""
    if not file.is_file():
        return
    second = file.with_name(f".{PREVIOUS}.{os.getpid()}.tmp")
    second.unlink(missing_ok=True)
    try:
        os.link(file, second)
    except OSError:  # a file system without hard links: for an instant only `PREVIOUS` is there
        second = file
    second.replace(file.with_name(PREVIOUS))


def exists(directory: Path) -> bool:
    """Whether there is anything to resume from."""
    return any((directory / name).is_file() for name in (FILE, PREVIOUS))


def tidy(directory: Path, keep: bool) -> None:
    """At the end of a run: only the final checkpoint stays, or none."""
    for name in (PREVIOUS,) if keep else (FILE, PREVIOUS):
        (directory / name).unlink(missing_ok=True)


def load(directory: Path) -> dict[str, Any] | None:
    """The newest whole state, tensors on the CPU; None where there is none.

    A damaged file is set aside as *.damaged with a warning that says what the run goes on from
    instead. UserError where a file cannot be read at all: it may well be whole.
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
                "mend the file system, or delete the run directory to start over"
            ) from None
        except Exception as error:  # any fault of the file means the same here
            left = name == FILE and (directory / PREVIOUS).is_file()
            then = "the run goes on from the checkpoint before it" if left else "the run starts over"
            warnings.warn(f"{file} is damaged ({first_line(error)}): set aside; {then}", stacklevel=2)
            file.replace(file.with_name(name + ".damaged"))
    return None


def read(file: Path) -> dict[str, Any]:
    """The state in one checkpoint file; ValueError, or what reading raises, unless it is whole and
    sealed."""
    content = file.read_bytes()
    body, seal, digest = content[: -DIGEST - len(SEAL)], content[-DIGEST - len(SEAL) : -DIGEST], content[-DIGEST:]
    if seal != SEAL:
        raise ValueError("its end is missing")
    if hashlib.sha256(body).digest() != digest:
        raise ValueError("its content does not fit its checksum")
    state = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise ValueError("it holds no state")
    return state
