"""Balanced choices of images."""

import numpy as np
import pytest
import torch

from sns.data.subset import balanced_indices


def labels() -> np.ndarray:
    return np.random.default_rng(3).permutation(np.repeat(np.arange(5), [30, 30, 4, 30, 30]))


@pytest.mark.parametrize("count", [1, 4, 5, 7, 20, 23, 60, 124])
def test_as_equal_as_possible_and_in_order(count):
    y = labels()
    index = balanced_indices(y, count)
    assert len(np.unique(index)) == len(index) == count
    assert np.all(np.diff(index) > 0)
    sizes = np.bincount(y[index], minlength=5)
    plenty = np.delete(sizes, 2)
    assert np.ptp(plenty) <= 1
    assert sizes[2] in (4, plenty.min(), plenty.max())
    assert sizes[2] == 4 or count <= 20


def test_the_choice_is_random_but_fixed():
    y = np.repeat(np.arange(3), 50)
    index = balanced_indices(y, 30)
    torch.manual_seed(1234)
    torch.rand(3)
    assert np.array_equal(balanced_indices(y, 30), index)
    assert not np.array_equal(index[:10], np.arange(10))  # not simply the first of the class


def test_a_smaller_choice_is_part_of_a_larger_one():
    y = labels()
    for count in range(1, len(y)):
        assert set(balanced_indices(y, count)) < set(balanced_indices(y, count + 1))


@pytest.mark.parametrize("count", [0, -1, 125])
def test_impossible_counts_are_refused(count):
    with pytest.raises(ValueError, match=f"cannot choose {count} of 124"):
        balanced_indices(labels(), count)
