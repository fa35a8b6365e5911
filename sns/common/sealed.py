"""States of torch in a file with a checksum.

The file is what torch.save writes, followed by `SEAL` and the SHA-256 of what torch.save wrote;
torch.load reads it too. Reading executes no code from the file.
"""

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

SEAL = b"sns-sealed-1"
DIGEST = hashlib.sha256().digest_size


def seal(body: memoryview) -> bytes:
    """What follows `body` in the file."""
    return SEAL + hashlib.sha256(body).digest()


def read(file: Path) -> dict[str, Any]:
    """The state in `file`. ValueError, or an error of reading, if it is damaged."""
    content = file.read_bytes()
    body, mark, digest = content[: -DIGEST - len(SEAL)], content[-DIGEST - len(SEAL) : -DIGEST], content[-DIGEST:]
    if mark != SEAL:
        raise ValueError("its end is missing")
    if hashlib.sha256(body).digest() != digest:
        raise ValueError("its content does not fit its checksum")
    state = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise ValueError("it holds no state")
    return state
