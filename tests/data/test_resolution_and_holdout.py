"""Smaller images, and a test split cut from the training set."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sns.common.errors import DataError
from sns.config.schema import DataConfig
from sns.data.dataset import Dataset, load_dataset
from sns.data.resize import area_average

CPU = torch.device("cpu")
CLASSES, TRAIN, TEST = 5, 60, 20


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """8x8 images whose first two bytes are their number: training from 0, test from 200."""
    rng = np.random.default_rng(4)
    x = rng.integers(0, 256, (TRAIN + TEST, 8, 8, 3), dtype=np.uint8)
    x[:, 0, 0, 0] = [*range(TRAIN), *range(200, 200 + TEST)]
    y = rng.permutation(np.arange(TRAIN + TEST) % CLASSES)
    y[:TRAIN] = rng.permutation(np.arange(TRAIN) % CLASSES)
    path = tmp_path / "some.npz"
    np.savez(path, x_train=x[:TRAIN], y_train=y[:TRAIN], x_test=x[TRAIN:], y_test=y[TRAIN:])
    return path


def read(file: Path, **options: object) -> Dataset:
    return load_dataset(DataConfig(name="npz", path=str(file), gcn="none", **options), CPU)  # type: ignore[arg-type]


def numbers(images: object) -> list[int]:
    """Which images these are."""
    return [round(float(value) * 255) for value in images.x[:, 0, 0, 0]]  # type: ignore[attr-defined]


@pytest.mark.parametrize("side", [1, 2, 4, 8])
def test_every_pixel_is_the_mean_of_its_square(side: int) -> None:
    x = np.random.default_rng(1).integers(0, 256, (3, 2, 8, 8), dtype=np.uint8)
    small = area_average(x, side)
    k = 8 // side
    expected = np.empty((3, 2, side, side))
    for i in range(side):
        for j in range(side):
            expected[:, :, i, j] = x[:, :, i * k : (i + 1) * k, j * k : (j + 1) * k].mean(axis=(2, 3))
    assert small.dtype == np.uint8
    np.testing.assert_array_equal(small, np.floor(expected + 0.5))


def test_halves_round_up_and_white_stays_white() -> None:
    x = np.array([[0, 1], [0, 1]], dtype=np.uint8)[None, None]
    assert area_average(x, 1).item() == 1
    assert area_average(np.full((1, 1, 32, 32), 255, dtype=np.uint8), 1).item() == 255
    with pytest.raises(ValueError, match="8x8 images cannot be averaged to 3x3"):
        area_average(np.zeros((1, 1, 8, 8), dtype=np.uint8), 3)


def test_both_splits_shrink_before_normalization(file: Path) -> None:
    whole, small = read(file), read(file, resolution=4)
    for a, b in ((whole.train, small.train), (whole.test, small.test)):
        bytes_ = (a.x * 255).round().byte().numpy()
        np.testing.assert_array_equal((b.x * 255).round().byte().numpy(), area_average(bytes_, 4))
        assert torch.equal(a.y, b.y)
    assert (small.image_size, small.note) == (4, "reduced to 4x4 by area averaging")
    assert small.fingerprint != whole.fingerprint
    with pytest.raises(DataError, match=r"data\.resolution=3 does not divide the 8 pixels a side of .*some\.npz"):
        read(file, resolution=3)


@pytest.mark.parametrize("subset", [None, 10, 40])
def test_held_out_images_never_train_and_the_test_set_is_never_touched(file: Path, subset: int | None) -> None:
    data = read(file, holdout=20, subset=subset)
    train, held = numbers(data.train), numbers(data.test)
    assert len(set(held)) == len(held) == 20
    assert len(set(train)) == len(train) == (subset or TRAIN - 20)
    assert not set(train) & set(held)
    assert max(train + held) < TRAIN  # the test set's are numbered from 200
    assert set(torch.bincount(data.test.y).tolist()) == {20 // CLASSES}
    assert data.note == "test split: 20 held-out training images, not the test set"


def test_the_held_out_images_are_the_same_for_every_subset_and_for_any_test_set(file: Path) -> None:
    few, many = read(file, holdout=20, subset=10), read(file, holdout=20)
    assert numbers(few.test) == numbers(many.test)
    with np.load(file) as content:
        arrays = dict(content)
    arrays["x_test"] = 255 - arrays["x_test"]
    np.savez(file, **arrays)
    assert read(file, holdout=20).fingerprint == many.fingerprint
    assert read(file).fingerprint != many.fingerprint


def test_too_many_held_out_images_are_refused(file: Path) -> None:
    with pytest.raises(DataError, match=r"data\.holdout=60 leaves none of the 60 training images"):
        read(file, holdout=60)
    with pytest.raises(DataError, match=r"data\.subset=50 is more than the 40 images"):
        read(file, holdout=20, subset=50)
