"""Balanced subsets of a data set."""

import numpy as np
import torch

from sns.common.seed import generator
from sns.data.raw import Array


def balanced_indices(labels: Array, count: int) -> Array:
    """Positions (count,), ascending, of a random choice from `labels` (N,), balanced over classes.

    Class sizes differ by at most one, unless a class has too few images. The choice is the same for
    every run seed, and a smaller choice is part of a larger one. ValueError unless 0 < count <= N.
    """
    if not 0 < count <= len(labels):
        raise ValueError(f"cannot choose {count} of {len(labels)} images")
    stream = generator(0, "subset")
    names, classes = np.unique(labels, return_inverse=True)
    turn = torch.randperm(len(names), generator=stream).numpy()[classes]  # which class goes first in each round
    rank = np.empty(len(labels), dtype=np.int64)  # an image's position in a random order of its class
    for index in range(len(names)):
        members = np.flatnonzero(classes == index)
        rank[members] = torch.randperm(len(members), generator=stream).numpy()
    return np.sort(np.lexsort((turn, rank))[:count])
