"""Images as read from a file, the registry of their readers, and the checks that every source must
pass."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sns.common.errors import DataError
from sns.common.registry import Registry
from sns.config.schema import DataConfig

Array = NDArray[Any]


@dataclass(frozen=True)
class RawSplit:
    """Images x (N, C, H, W) uint8, possibly a strided view, and their labels y (N,) integer."""

    x: Array
    y: Array

    def take(self, index: Array) -> "RawSplit":
        """The images at `index` (M,), in that order."""
        return RawSplit(self.x[index], self.y[index])


@dataclass(frozen=True)
class RawData:
    """A whole set. `classes` None: as many as the training labels have. `note`: for the reader.

    `source` names the files in messages; None: the name of the data set.
    """

    train: RawSplit
    test: RawSplit
    classes: int | None = None
    note: str | None = None
    source: str | None = None


DATASETS: Registry[Callable[[DataConfig], RawData]] = Registry("data set")
register = DATASETS.register  # a decorator: makes a reader known as `data.name=<name>`


def check(raw: RawData, source: str) -> int:
    """The number of classes; DataError, naming `source`, unless images and labels fit together."""
    images, labels = ([len(getattr(split, part)) for split in (raw.train, raw.test)] for part in "xy")
    if images[0] != images[1] and images == labels[::-1]:
        raise DataError(
            f"{source}: y_train has as many labels as x_test has images, and y_test as x_train; exchange them"
        )
    for name, split in (("train", raw.train), ("test", raw.test)):
        _check_split(split, name, source)
    if raw.train.x.shape[1:] != raw.test.x.shape[1:]:
        raise DataError(
            f"{source}: training images are {_size(raw.train.x)} but test images are {_size(raw.test.x)}; "
            "resize them to one shape"
        )
    present = np.unique(raw.train.y)
    classes = int(present[-1]) + 1 if raw.classes is None else raw.classes
    for name, split in (("train", raw.train), ("test", raw.test)):
        low, high = int(split.y.min()), int(split.y.max())
        if low < 0 or high >= classes:
            raise DataError(
                f"{source}: {name} labels run from {low} to {high} but must lie in 0..{classes - 1} "
                "(the classes of the training set); correct the labels"
            )
    if raw.classes is None and len(present) != classes:
        gap = int(np.flatnonzero(present != np.arange(len(present)))[0])
        raise DataError(
            f"{source}: no training image has label {gap} although labels go up to {classes - 1}; "
            + (
                "number the classes from 0: subtract 1 from all labels"
                if present[0] == 1 and gap == 0
                else "number the classes from 0 without gaps"
            )
        )
    return classes


def _size(x: Array) -> str:
    return "x".join(str(n) for n in (*x.shape[2:], x.shape[1]))


def _check_split(split: RawSplit, name: str, source: str) -> None:
    x, y = split.x, split.y
    if x.ndim != 4:
        raise DataError(
            f"{source}: x_{name} has {x.ndim} dimensions but must have 4 (images, height, width, channels); "
            + ("add a last axis of 1 for grey images: x[..., None]" if x.ndim == 3 else "reshape it")
        )
    if x.dtype != np.uint8:
        raise DataError(f"{source}: x_{name} has type {x.dtype} but must be uint8; {_to_bytes(x)}")
    if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer):
        raise DataError(
            f"{source}: y_{name} has {y.ndim} dimension(s) and type {y.dtype} but must be a list of integers; "
            + _to_numbers(y)
        )
    if len(x) != len(y):
        fix = "make them equal"
        if x.shape[1] == len(y):
            fix = "the images seem to lie along the last axis: x.transpose(3, 0, 1, 2) puts them first"
        raise DataError(f"{source}: x_{name} has {len(x)} images but y_{name} has {len(y)} labels; {fix}")
    if x.size == 0:
        raise DataError(f"{source}: x_{name} is empty (shape {x.shape}); store at least one image")
    if x.shape[2] != x.shape[3]:
        raise DataError(f"{source}: x_{name} is {x.shape[2]}x{x.shape[3]} but images must be square; {_to_square(x)}")


def _to_bytes(x: Array) -> str:
    """How pixels of another type become bytes."""
    low, high = (float(x.min()), float(x.max())) if x.size and x.dtype.kind in "fiub" else (-1.0, 0.0)
    if low >= 0 and high <= 1:
        return "its values lie in 0..1: (255 * x).round().astype('uint8')"
    if low >= 0 and high <= 255:
        return "its values lie in 0..255: x.round().astype('uint8')"
    return "store plain bytes 0..255, before any normalization"


def _to_numbers(y: Array) -> str:
    """How labels in another form become class numbers."""
    if y.ndim == 2 and y.shape[1] == 1:
        return "drop the second axis: y[:, 0]"
    if y.ndim == 2:
        return "one-hot labels become class numbers by y.argmax(1)"
    if y.ndim == 1 and y.dtype.kind == "f" and bool((y == np.round(y)).all()):
        return "they are whole numbers: y.astype('int64')"
    if y.ndim == 1 and y.dtype.kind in "US":
        return "names become class numbers by numpy.unique(y, return_inverse=True)[1]"
    return "store one class number an image"


def _to_square(x: Array) -> str:
    """What a shape (N, C, H, W), as read, that is not square may come from."""
    _, last, first, middle = x.shape  # as stored: (N, first, middle, last)
    if middle == last and first in (1, 3, 4):
        return f"its channels ({first}) seem to be the second axis: x.transpose(0, 2, 3, 1) puts them last"
    if first == last and middle in (1, 3, 4):
        return f"its channels ({middle}) seem to be the third axis: x.transpose(0, 1, 3, 2) puts them last"
    return "crop or pad them"
