"""The 1,797 handwritten digits of 8x8 pixels in scikit-learn (from UCI's Optical Recognition of Handwritten Digits)."""

import numpy as np

from sns.data.raw import RawData, RawSplit
from sns.data.subset import balanced_indices

TEST_IMAGES = 360  # 36 of each class; the other 1,437 train
SCALE = 15  # grey levels 0..16 become bytes 0..240: an exact multiple, which contrast normalization takes out again


def read() -> RawData:
    """1,437 training and 360 test images (1, 8, 8), split once for all seeds; the test set is class-balanced."""
    from sklearn.datasets import load_digits  # here, so that other data sets do not wait for its import

    bunch = load_digits()
    x = (bunch.images * SCALE).astype(np.uint8)[:, None]
    y = bunch.target.astype(np.int64)
    held_out = np.zeros(len(y), dtype=bool)
    held_out[balanced_indices(y, TEST_IMAGES)] = True
    return RawData(RawSplit(x[~held_out], y[~held_out]), RawSplit(x[held_out], y[held_out]), classes=10)
