"""A user's images, and everything that can be wrong with them."""

import numpy as np
import pytest
import torch

from sns.common import memory
from sns.common.errors import DataError
from sns.config.schema import DataConfig
from sns.data.dataset import load_dataset
from sns.data.gcn import global_contrast_normalize

CPU = torch.device("cpu")


def arrays(train: int = 12, test: int = 8, classes: int = 4, size: int = 6, channels: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (train, size, size, channels), dtype=np.uint8),
        "y_train": np.arange(train, dtype=np.uint8) % classes,
        "x_test": rng.integers(0, 256, (test, size, size, channels), dtype=np.uint8),
        "y_test": np.arange(test, dtype=np.uint8) % classes,
    }


@pytest.fixture
def file(tmp_path):
    return tmp_path / "images.npz"


def read(file, **options):
    return load_dataset(DataConfig(name="npz", path=str(file), **options), CPU)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_pixel_for_pixel(file, save):
    content = arrays()
    save(file, **content)
    data = read(file, gcn="none")
    for images, split in ((data.train, "train"), (data.test, "test")):
        expected = torch.from_numpy(content[f"x_{split}"]).permute(0, 3, 1, 2)
        assert torch.equal((images.x * 255).round().byte(), expected)
        assert torch.equal(images.y, torch.from_numpy(content[f"y_{split}"]).long())
        assert images.x.is_contiguous()
    assert (data.name, data.classes, data.channels, data.image_size, data.note) == ("npz", 4, 3, 6, None)


def test_default_is_contrast_normalised(file):
    content = arrays()
    np.savez(file, **content)
    pixels = torch.from_numpy(content["x_train"]).permute(0, 3, 1, 2)
    assert torch.equal(read(file).train.x, global_contrast_normalize(pixels, "std"))
    assert torch.equal(read(file, gcn="l2").train.x, global_contrast_normalize(pixels, "l2"))


def test_grey_images_and_a_home_folder(file, monkeypatch):
    np.savez(file, **arrays(channels=1))
    monkeypatch.setenv("HOME", str(file.parent))
    assert read("~/images.npz").channels == 1


def test_images_that_are_not_exact_are_noted(file):
    np.savez(file, **arrays(), not_exact=np.array([1, 5, 13]))
    assert read(file).note == "images, 3 of 20 images from JPEG"
    assert read(file, subset=4).note == "images, 3 of 20 images from JPEG, counted before the subset was taken"
    assert read(file.rename(file.with_name("cifar10.npz"))).note == "CIFAR-10, 3 of 20 images from JPEG"
    np.savez(file, **arrays(), not_exact=np.array([], dtype=np.int32))
    assert read(file).note is None


def change(**changes):
    return lambda content: content | {key: make(content) for key, make in changes.items()}


UNFIT = {
    "key": (lambda c: {k: v for k, v in c.items() if k != "y_test"}, "lacks the array.s. y_test; store all of"),
    "objects": (change(y_train=lambda c: c["y_train"].astype(object)), "cannot be read as .npz .Object arrays"),
    "floats": (
        change(x_test=lambda c: c["x_test"] / 255),
        r"must be uint8; its values lie in 0\.\.1: .255 . x.\.round",
    ),
    "rank": (
        change(x_train=lambda c: c["x_train"].reshape(12, -1)),
        "x_train has 2 dimensions but must have 4 .*; reshape it",
    ),
    "lengths": (change(y_train=lambda c: c["y_train"][:-1]), "x_train has 12 images but y_train has 11 labels"),
    "one-hot": (
        change(y_test=lambda c: np.eye(4, dtype=np.uint8)[c["y_test"]]),
        r"y_test has 2 dimension.*; one-hot labels become class numbers by y\.argmax.1",
    ),
    "float labels": (
        change(y_test=lambda c: c["y_test"] * 1.0),
        "y_test has 1 dimension.s. and type float64 .*; they are whole numbers",
    ),
    "not square": (change(x_train=lambda c: c["x_train"][:, :5]), "x_train is 5x6 but images must be square"),
    "channels first": (
        change(x_train=lambda c: c["x_train"].transpose(0, 3, 1, 2)),
        "channels .3. seem to be the second axis: x",
    ),
    "channels in between": (change(x_train=lambda c: c["x_train"].transpose(0, 1, 3, 2)), "seem to be the third axis"),
    "images last": (change(x_test=lambda c: c["x_test"].transpose(1, 2, 3, 0)), "seem to lie along the last axis"),
    "no channel axis": (change(x_train=lambda c: c["x_train"][..., 0]), r"has 3 dim.*: x\[\.\.\., None\]"),
    "wide integers": (change(x_train=lambda c: c["x_train"].astype(int)), r"its values lie in 0\.\.255: x.round"),
    "normalised": (change(x_train=lambda c: c["x_train"] / 99.0 - 1), "before any normalization"),
    "a column of labels": (change(y_train=lambda c: c["y_train"][:, None]), r"drop the second axis: y\[:, 0\]"),
    "names": (change(y_train=lambda c: c["y_train"].astype(str)), r"by numpy\.unique"),
    "splits exchanged": (lambda c: c | {"y_train": c["y_test"], "y_test": c["y_train"]}, "y_train has as many .*exch"),
    "two sizes": (change(x_test=lambda c: c["x_test"][:, :5, :5]), "images are 6x6x3 but test images are 5x5x3"),
    "negative": (change(y_train=lambda c: c["y_train"].astype(int) - 1), "train labels run from -1 to 2"),
    "unseen": (change(y_test=lambda c: c["y_test"] + 1), r"test labels run from 1 to 4 but must lie in 0\.\.3"),
    "from one": (
        change(y_train=lambda c: c["y_train"] + 1),
        "no training image has label 0 although .* up to 4; .*subtract 1",
    ),
    "a gap": (change(y_train=lambda c: c["y_train"] * 2), "no training image has label 1 although .* up to 6"),
    "empty": (change(x_test=lambda c: c["x_test"][:0], y_test=lambda c: c["y_test"][:0]), "x_test is empty"),
    "no pixels": (change(x_train=lambda c: c["x_train"][:, :0, :0]), "x_train is empty"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_unfit_arrays_are_one_sentence_naming_the_file(file, case):
    spoil, message = UNFIT[case]
    np.savez(file, **spoil(arrays()))
    with pytest.raises(DataError, match=message) as caught:
        read(file)
    text = str(caught.value)
    assert text.startswith(str(file))
    assert "\n" not in text
    assert ";" in text  # what to do comes after it
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("damage", ["missing", "text", "empty", "npy", "cut", "flipped", "folder"])
def test_a_file_that_is_no_archive_is_one_sentence(file, damage):
    np.savez(file, **arrays())
    content = bytearray(file.read_bytes())
    match damage:
        case "missing" | "folder":
            file.unlink()
            if damage == "folder":
                file.mkdir()
        case "text":
            file.write_text("hello")
        case "empty":
            file.write_bytes(b"")
        case "npy":
            with file.open("wb") as handle:
                np.save(handle, np.zeros(3))
        case "cut":
            file.write_bytes(content[: len(content) // 2])
        case "flipped":
            content[300] ^= 255  # within the pixels of the first array
            file.write_bytes(content)
    expected = "does not exist; set data.path" if damage in ("missing", "folder") else "cannot be read as .npz .*again"
    with pytest.raises(DataError, match=expected) as caught:
        read(file)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_a_pickle_is_never_run(file, tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    np.savez(file, **(arrays() | {"y_test": np.array([Trap()], dtype=object)}))
    with pytest.raises(DataError, match="Object arrays"):
        read(file)
    assert not (tmp_path / "sprung").exists()


def test_memory_is_checked_before_reading(file, monkeypatch):
    np.savez_compressed(file, **(arrays() | {"x_train": np.zeros((12, 200, 200, 3), dtype=np.uint8)}))
    assert file.stat().st_size < 1_000_000  # the unpacked size counts
    monkeypatch.setattr(memory, "available_host_bytes", lambda: 2_000_000)
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("read although it does not fit"))
    with pytest.raises(DataError, match=r"needs 0\.00288 GB of host memory"):
        read(file)


@pytest.mark.parametrize("key", ["subset", "test_subset"])
def test_a_subset_larger_than_the_set_is_refused(file, key):
    np.savez(file, **arrays())
    with pytest.raises(DataError, match=rf"^data\.{key}=13 is more than the (12|8) images of .*; choose fewer"):
        read(file, **{key: 13})


def test_subsets_are_balanced_in_order_and_apart(file):
    content = arrays(train=40, test=20)
    np.savez(file, **content)
    data = read(file, subset=8, test_subset=4, gcn="none")
    assert data.train.y.bincount().tolist() == [2, 2, 2, 2]
    assert data.test.y.bincount().tolist() == [1, 1, 1, 1]
    whole = read(file, gcn="none")
    places = [next(i for i in range(40) if torch.equal(whole.train.x[i], x)) for x in data.train.x]
    assert places == sorted(places)
    assert torch.equal(whole.train.y[places], data.train.y)
    assert torch.equal(read(file, test_subset=4, gcn="none").test.x, data.test.x)  # whatever the training subset
    assert read(file, subset=3).classes == 4  # as many classes as the file holds


def test_fingerprint_differs_for_images_labels_and_subsets(file):
    content = arrays()
    np.savez(file, **content)
    seen = {read(file).fingerprint, read(file, subset=11).fingerprint, read(file, test_subset=7).fingerprint}
    assert read(file, gcn="l2").fingerprint in seen  # the raw images, not the normalised ones
    np.savez_compressed(file, **(content | {"y_train": content["y_train"].astype(np.int32)}))
    assert read(file).fingerprint in seen  # how they are stored does not matter
    content["x_test"][3, 2, 1, 0] ^= 1
    np.savez(file, **content)
    seen.add(read(file).fingerprint)
    content["y_train"][:2] = content["y_train"][1::-1]
    np.savez(file, **content)
    seen.add(read(file).fingerprint)
    assert len(seen) == 5
    assert all(len(bytes.fromhex(digest)) == 16 for digest in seen)
