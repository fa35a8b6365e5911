"""The three data sets from official files, through torchvision's classes; damaged ones refused."""

import pickle

import numpy as np
import pytest
import torch

from sns.common import memory
from sns.common.errors import ConfigError
from sns.config.schema import DataConfig
from sns.data.dataset import load_dataset


def test_official_files_load_pixel_for_pixel(official):
    data = official.read()
    official.check(data)
    assert (data.name, data.classes, data.channels) == (official.name, {"cifar100": 100}.get(official.name, 10), 3)
    assert data.note is None


def test_same_images_as_npz_have_the_same_fingerprint(cifar, tmp_path):
    file = tmp_path / "same.npz"
    np.savez(file, **{k: v.transpose(0, 2, 3, 1) if k[0] == "x" else v for k, v in cifar.content.items()})
    same = load_dataset(DataConfig(name="npz", path=str(file)), torch.device("cpu"))
    assert cifar.read().fingerprint == same.fingerprint


@pytest.mark.parametrize("how", ["flipped", "cut", "empty", "missing"])
def test_every_damaged_file_is_named(official, how):
    for path in official.checked_files:
        good = path.read_bytes()
        if how == "missing":
            path.unlink()
        else:
            path.write_bytes({"flipped": good[:-1] + bytes([good[-1] ^ 1]), "cut": good[:-7], "empty": b""}[how])
        fault = "is missing from the data set" if how == "missing" else "is damaged"
        for download in (False, True):  # never replaced silently: the file may be a user's own
            text = official.refused(f"{fault}.*; move .* and run again with data.download=true", download)
            assert text.startswith(f"{path} ")
        path.write_bytes(good)
    official.read()


def test_a_pickle_that_ends_early_although_its_checksum_is_right(cifar, publisher):
    path = cifar.folder / "data_batch_3"
    path.write_bytes(path.read_bytes()[:-500])
    publisher.recompute(cifar)
    assert cifar.refused("cannot be read").startswith(str(cifar.folder))


def test_images_without_a_label_are_refused(publisher):
    official = publisher.publish("stl10")
    (official.folder / "train_y.bin").write_bytes(bytes(20))
    publisher.recompute(official)
    text = official.refused(r"train labels run from 255 to 255 but must lie in 0\.\.9")
    assert text.startswith("stl10 in ")


def test_memory_is_checked_before_reading(official, monkeypatch):
    monkeypatch.setattr(memory, "available_host_bytes", lambda: 1000)
    monkeypatch.setattr(pickle, "load", lambda *_, **__: pytest.fail("read although it does not fit"))
    monkeypatch.setattr(np, "fromfile", lambda *_, **__: pytest.fail("read although it does not fit"))
    assert official.refused("of host memory but 1e-06 GB are free").startswith(str(official.folder))


def test_the_unlabelled_images_are_not_needed(publisher):
    official = publisher.publish("stl10")
    assert not (official.folder / "unlabeled_X.bin").exists()
    assert "unlabeled_X.bin" in [name for name, _ in official.kind.train_list]
    assert len(official.read().train) == 20


def test_the_unlabelled_images_can_be_the_training_set(publisher):
    official = publisher.publish("stl10")
    images = np.random.default_rng(0).integers(0, 256, (7, 3, 96, 96), dtype=np.uint8)
    images.transpose(0, 1, 3, 2).tofile(official.folder / "unlabeled_X.bin")  # by columns
    publisher.recompute(official)
    config = DataConfig(name="stl10", root=str(official.root), download=False, gcn="none", unlabelled=True)
    data = load_dataset(config, torch.device("cpu"))
    assert torch.equal((data.train.x * 255).round().byte(), torch.from_numpy(images))
    assert not data.train.y.any()
    assert len(data.test) == 10


def test_only_stl10_has_unlabelled_images():
    with pytest.raises(ConfigError, match=r"belongs to data\.name=stl10"):
        DataConfig(name="cifar10", unlabelled=True)
