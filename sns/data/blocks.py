"""Where the images lie in an archive, as bytes: in an .npz file, a pickle of CIFAR, or STL-10's
plain arrays."""

import pickletools
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sns.common.errors import DataError, first_line

PIECE = 32 << 20  # bytes of images that are compressed together: what is in memory at a time, a few times over
CIFAR, STL = (3, 32, 32), (3, 96, 96)
STRINGS = {"BINSTRING": 5, "BINBYTES": 5, "BINBYTES8": 9}  # pickle's opcodes for raw bytes, and the bytes before them


@dataclass(frozen=True)
class Block:
    """Images as they lie in a file: `shape` (N, H, W, C), or (N, C, H, W) where `planes`."""

    start: int
    shape: tuple[int, ...]
    planes: bool

    @property
    def end(self) -> int:
        """The byte after the last image."""
        return self.start + int(np.prod(self.shape))


def find(path: Path, data: bytes) -> Iterator[Block]:
    """Where images lie in `data`, the bytes of `path`, in their order; nothing for what has
    none."""
    if path.suffix == ".npz":
        yield from _of_arrays(path, data)
    elif path.name.endswith("_X.bin") and len(data) % np.prod(STL) == 0:
        yield Block(0, (len(data) // int(np.prod(STL)), *STL), True)
    elif data[:1] == b"\x80":  # a pickle of protocol 2 or later: read as a list of strings, nothing in it is run
        try:
            for opcode, argument, position in pickletools.genops(data):
                if opcode.name in STRINGS and argument and len(argument) % np.prod(CIFAR) == 0:
                    assert position is not None
                    yield Block(position + STRINGS[opcode.name], (len(argument) // int(np.prod(CIFAR)), *CIFAR), True)
        except ValueError:
            return  # it only began like one


def _of_arrays(path: Path, data: bytes) -> Iterator[Block]:
    end = 0
    try:
        with np.load(path, allow_pickle=False) as content:
            for key in content.files:
                array = content[key]
                if array.dtype == np.uint8 and array.ndim == 4 and array.size > 0:
                    start = data.find(array[:1].tobytes(), end)
                    # -1 or something else, where the file is compressed or in another order: then it is left as it is.
                    if start >= 0 and data[start : start + array.nbytes] == array.tobytes():
                        end = start + array.nbytes
                        yield Block(start, array.shape, False)
    except (zipfile.BadZipFile, zlib.error, ValueError, TypeError, EOFError, OSError, KeyError) as error:
        raise DataError(f"{path} cannot be read as .npz ({first_line(error)}); write it again with savez") from None


def pieces(data: bytes, blocks: Iterable[Block]) -> Iterator[Block | slice]:
    """The whole of `data`, cut into runs of images of about PIECE bytes and what lies between
    them."""
    done = 0
    for block in blocks:
        if block.start > done:
            yield slice(done, block.start)
        size = int(np.prod(block.shape[1:]))
        step = max(1, PIECE // size)
        for first in range(0, block.shape[0], step):
            count = min(step, block.shape[0] - first)
            yield Block(block.start + first * size, (count, *block.shape[1:]), block.planes)
        done = block.end
    if done < len(data):
        yield slice(done, len(data))
