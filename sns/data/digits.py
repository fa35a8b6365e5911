"""The 1,797 handwritten digits of 8x8 pixels in scikit-learn (from UCI's Optical Recognition of
Handwritten Digits)."""

import importlib.util
from pathlib import Path

import numpy as np

from sns.common.errors import DataError
from sns.data.raw import Array, RawData, RawSplit
from sns.data.subset import balanced_indices

TEST_IMAGES = 360  # 36 of each class; the other 1,437 train
SCALE = 15  # grey levels 0..16 become bytes 0..240: an exact multiple, which contrast normalization takes out again


def read() -> RawData:
    """1,437 training and 360 test images (1, 8, 8), split once for all seeds; the test set is
    class-balanced."""
    table = _table()
    x = (table[:, :-1].reshape(-1, 8, 8) * SCALE).astype(np.uint8)[:, None]
    y = table[:, -1].astype(np.int64)
    held_out = np.zeros(len(y), dtype=bool)
    held_out[balanced_indices(y, TEST_IMAGES)] = True
    return RawData(RawSplit(x[~held_out], y[~held_out]), RawSplit(x[held_out], y[held_out]), classes=10)


def _table() -> Array:
    """(1797, 65): 64 grey levels and the label, from the file that scikit-learn installs.

    The package is located but not imported, which would take longer than a short run.
    """
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise DataError(
            "the digits come with scikit-learn, which is not installed; install it: pip install scikit-learn"
        )
    file = Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"
    try:
        return np.loadtxt(file, delimiter=",")
    except (OSError, ValueError):  # moved or changed in another release: ask the package itself
        from sklearn.datasets import load_digits

        bunch = load_digits()
        return np.column_stack([bunch.data, bunch.target])
