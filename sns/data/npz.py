"""A user's images: one .npz file with x_train, y_train, x_test and y_test."""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from sns.common.errors import DataError, first_line
from sns.common.memory import require_host
from sns.config.schema import DataConfig
from sns.data.raw import Array, RawData, RawSplit, register

KEYS = ("x_train", "y_train", "x_test", "y_test")
TITLES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "stl10": "STL-10"}  # by file name, for notes


@contextmanager
def opened(config: DataConfig) -> Iterator[Any]:
    """The file `data.path`, whose arrays are read inside the context. DataError if it is missing,
    cannot be read, is damaged, lacks an array or does not fit into memory."""
    path = Path(str(config.path)).expanduser()
    try:
        if not path.is_file():
            raise DataError(f"{path} does not exist; set data.path to an .npz file with arrays {', '.join(KEYS)}")
        with zipfile.ZipFile(path) as archive:
            # Twice the arrays' size: as stored, and again in the order of training.
            require_host(2 * sum(entry.file_size for entry in archive.infolist()), str(path))
        with np.load(path, allow_pickle=False) as content:
            missing = [key for key in KEYS if key not in content.files]
            if missing:
                raise DataError(f"{path} lacks the array(s) {', '.join(missing)}; store all of {', '.join(KEYS)}")
            yield content
    except MemoryError:
        raise DataError(f"{path} does not fit into memory; store fewer images or use a larger machine") from None
    except PermissionError:
        raise DataError(f"{path} cannot be read (Permission denied); make it readable for this user") from None
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError, RuntimeError, KeyError) as error:
        raise DataError(
            f"{path} cannot be read as .npz ({first_line(error)}); write it again with numpy.savez"
        ) from None


@register("npz")
def read(config: DataConfig) -> RawData:
    """The arrays of `data.path`: x_* (N, H, W, C) uint8, y_* (N,) integer.

    The optional `not_exact` (M,) lists images that come from a JPEG copy; its size becomes the
    note. DataError as in `opened`.
    """
    path = Path(str(config.path)).expanduser()
    with opened(config) as content:
        arrays: dict[str, Array] = {key: content[key] for key in KEYS}
        not_exact = content["not_exact"].size if "not_exact" in content.files else 0
    total = len(arrays["x_train"]) + len(arrays["x_test"])
    title = TITLES.get(path.stem, path.stem)
    note = f"{title}, {not_exact:,} of {total:,} images from JPEG" if not_exact > 0 else None
    return RawData(
        RawSplit(_channels_first(arrays["x_train"]), arrays["y_train"]),
        RawSplit(_channels_first(arrays["x_test"]), arrays["y_test"]),
        note=note,
        source=str(path),
    )


def _channels_first(x: Array) -> Array:
    return x.transpose(0, 3, 1, 2) if x.ndim == 4 else x
