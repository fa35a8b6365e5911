"""Images of lower resolution."""

import numpy as np

from sns.data.raw import Array


def area_average(images: Array, side: int) -> Array:
    """Images (N, C, S, S) uint8 as (N, C, side, side) uint8: means of k x k pixels, k = S / side.

    Means are rounded to the nearest byte, halves up, in integers, so that machines agree.
    ValueError unless `side` divides S.
    """
    count, channels, height, width = images.shape
    if height != width or side <= 0 or height % side != 0:
        raise ValueError(f"{height}x{width} images cannot be averaged to {side}x{side}")
    k = height // side
    squares = images.reshape(count, channels, side, k, side, k)
    sums = squares.sum(axis=(3, 5), dtype=np.uint32)
    means: Array = ((sums + k * k // 2) // (k * k)).astype(np.uint8)
    return means
