"""The 1,797 handwritten digits (8x8 pixels) of scikit-learn, from UCI's optical recognition set."""

import importlib.util
from pathlib import Path

import numpy as np

from sns.common.errors import DataError
from sns.config.schema import DataConfig
from sns.data.raw import Array, RawData, RawSplit, register
from sns.data.subset import balanced_indices

TEST_IMAGES = 360  # 36 of each class; the other 1,437 train
SCALE = 15  # grey levels 0..16 become bytes 0..240, an exact multiple that contrast normalization cancels


@register("digits")
def read(_: DataConfig) -> RawData:
    """1,437 training and 360 test images (1, 8, 8): one balanced split for all seeds."""
    table = _table()
    x = (table[:, :-1].reshape(-1, 8, 8) * SCALE).astype(np.uint8)[:, None]
    y = table[:, -1].astype(np.int64)
    held_out = np.zeros(len(y), dtype=bool)
    held_out[balanced_indices(y, TEST_IMAGES)] = True
    return RawData(RawSplit(x[~held_out], y[~held_out]), RawSplit(x[held_out], y[held_out]), classes=10)


def _table() -> Array:
    """(1797, 65): 64 grey levels and the label, from the file that scikit-learn installs.

    The package is located but not imported: its import takes longer than a short run.
    """
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise DataError(
            "the digits come with scikit-learn, which is not installed; install it: pip install scikit-learn"
        )
    file = Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"
    try:
        return np.loadtxt(file, delimiter=",")
    except (OSError, ValueError):  # moved or changed in another release: ask the package
        from sklearn.datasets import load_digits

        bunch = load_digits()
        return np.column_stack([bunch.data, bunch.target])
