"""Images inside an archive's bytes: where they are, and how they are compressed without loss.

Lossless WebP takes about half the bytes of small photographs. Many images share one picture,
because the code tables of a picture of 32 x 32 pixels would cost more than they save.
"""

import io
import lzma
import pickletools
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from sns.common.errors import DataError, first_line

Bytes = NDArray[np.uint8]
PIECE = 32 << 20  # bytes of images that are compressed together, which bounds the memory in use
CIFAR, STL = (3, 32, 32), (3, 96, 96)
STRINGS = {"BINSTRING": 5, "BINBYTES": 5, "BINBYTES8": 9}  # pickle's opcodes for raw bytes: length of their header
LARGEST = 16_383  # pixels a side of a WebP picture
ACROSS = 25  # images in a row, and rows, of a picture
METHOD, EFFORT = 2, 0  # of WebP's encoder: slower settings save another 1%


@dataclass(frozen=True)
class Block:
    """Consecutive images in a file: `shape` (N, H, W, C), or (N, C, H, W) where `planes`."""

    start: int
    shape: tuple[int, ...]
    planes: bool

    @property
    def end(self) -> int:
        """The byte after the last image."""
        return self.start + int(np.prod(self.shape))


def blocks(path: Path, data: bytes) -> Iterator[Block]:
    """The images in `data`, the bytes of `path`, in order; none for a file of another kind."""
    if path.suffix == ".npz":
        yield from _blocks_of_npz(path, data)
    elif path.name.endswith("_X.bin") and len(data) % np.prod(STL) == 0:
        yield Block(0, (len(data) // int(np.prod(STL)), *STL), True)
    elif data[:1] == b"\x80":  # a pickle of protocol 2 or later: its strings are listed, nothing in it is executed
        try:
            for opcode, argument, position in pickletools.genops(data):
                if opcode.name in STRINGS and argument and len(argument) % np.prod(CIFAR) == 0:
                    assert position is not None
                    yield Block(position + STRINGS[opcode.name], (len(argument) // int(np.prod(CIFAR)), *CIFAR), True)
        except ValueError:
            return  # not a pickle after all


def _blocks_of_npz(path: Path, data: bytes) -> Iterator[Block]:
    end = 0
    try:
        with np.load(path, allow_pickle=False) as content:
            for key in content.files:
                array = content[key]
                if array.dtype == np.uint8 and array.ndim == 4 and array.size > 0:
                    start = data.find(array[:1].tobytes(), end)
                    # Not so in a compressed file, or in another memory order.
                    if start >= 0 and data[start : start + array.nbytes] == array.tobytes():
                        end = start + array.nbytes
                        yield Block(start, array.shape, False)
    except (zipfile.BadZipFile, zlib.error, ValueError, TypeError, EOFError, OSError, KeyError) as error:
        raise DataError(f"{path} cannot be read as .npz ({first_line(error)}); write it again with savez") from None


def pieces(data: bytes, images: Iterable[Block]) -> Iterator[Block | slice]:
    """All of `data` in order: images in pieces of about PIECE bytes, and the bytes between them."""
    done = 0
    for block in images:
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


def encode(images: Bytes) -> bytes:
    """Compressed `images` (N, H, W, C) uint8: WebP for one or three channels, else lzma."""
    if not _are_pictures(images.shape):
        return lzma.compress(images.tobytes())
    out = io.BytesIO()
    for start, stop, columns in _sheets(images.shape):
        sheet = io.BytesIO()
        picture = Image.fromarray(_side_by_side(images[start:stop], columns))
        picture.save(sheet, "WEBP", lossless=True, method=METHOD, quality=EFFORT)
        out.write(len(sheet.getvalue()).to_bytes(4, "little") + sheet.getvalue())
    return out.getvalue()


def decode(data: bytes, shape: tuple[int, int, int, int]) -> Bytes:
    """The images (N, H, W, C) that `encode` compressed; ValueError or LZMAError for other data."""
    if not _are_pictures(shape):
        return np.frombuffer(lzma.decompress(data), np.uint8).reshape(shape)
    _, height, width, channels = shape
    images, stream = np.empty(shape, np.uint8), io.BytesIO(data)
    for start, stop, columns in _sheets(shape):
        size = int.from_bytes(stream.read(4), "little")
        try:
            picture = np.asarray(Image.open(io.BytesIO(stream.read(size))).convert("RGB"))
        except (UnidentifiedImageError, OSError) as error:
            raise ValueError(f"not a picture: {error}") from None
        rows = picture.reshape(-1, height, columns, width, 3).swapaxes(1, 2)
        images[start:stop] = rows.reshape(-1, height, width, 3)[: stop - start, ..., :channels]
    return images


def _are_pictures(shape: tuple[int, ...]) -> bool:
    _, height, width, channels = shape
    return channels in (1, 3) and 0 < max(height, width) <= LARGEST


def _sheets(shape: tuple[int, ...]) -> Iterator[tuple[int, int, int]]:
    """For each picture: its first image, the one after its last, and its images a row."""
    count, height, width, _ = shape
    columns, rows = (min(ACROSS, LARGEST // side) for side in (width, height))
    for start in range(0, count, columns * rows):
        yield start, min(count, start + columns * rows), columns


def _side_by_side(images: Bytes, columns: int) -> Bytes:
    """(N, H, W, 1 or 3) as one picture (rows * H, columns * W, 3), black after the last image."""
    count, height, width, _ = images.shape
    rows = -(-count // columns)
    sheet = np.zeros((rows * columns, height, width, 3), np.uint8)
    sheet[:count] = images
    return sheet.reshape(rows, columns, height, width, 3).swapaxes(1, 2).reshape(rows * height, columns * width, 3)
