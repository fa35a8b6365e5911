"""The data set that needs no file."""

import numpy as np
import torch
from sklearn.datasets import load_digits

from sns.config.schema import DataConfig
from sns.data.dataset import load_dataset

CPU = torch.device("cpu")


def test_fixed_balanced_split_of_all_images():
    data = load_dataset(DataConfig(name="digits"), CPU)
    assert (len(data.train), len(data.test), data.classes, data.channels, data.image_size) == (1437, 360, 10, 1, 8)
    assert data.test.y.bincount().tolist() == [36] * 10
    assert data.fingerprint == "cbe355187e7a841f45214d91ab58a21f"  # a new split makes old records incomparable


def test_grey_levels_are_the_ones_of_scikit_learn_times_15():
    data = load_dataset(DataConfig(name="digits", gcn="none"), CPU)
    levels = torch.cat([data.train.x, data.test.x]).mul(17).round().int().numpy()[:, 0]  # 255 / 15
    got = sorted(
        (image.tobytes(), int(y)) for image, y in zip(levels, torch.cat([data.train.y, data.test.y]), strict=True)
    )
    bunch = load_digits()
    assert got == sorted(
        (i.astype(np.int32).tobytes(), int(y)) for i, y in zip(bunch.images, bunch.target, strict=True)
    )


def test_types_and_device_are_those_of_training():
    data = load_dataset(DataConfig(name="digits"), CPU)
    for images in (data.train, data.test):
        assert (images.x.dtype, images.y.dtype) == (torch.float32, torch.int64)
        assert images.x.device == images.y.device == CPU
        assert len(images) == len(images.x)
    assert data.note is None
