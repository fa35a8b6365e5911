"""Small archives in the official formats of CIFAR-10, CIFAR-100 and STL-10, and their server."""

import hashlib
import pickle
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sns.common.errors import DataError
from sns.config.schema import DataConfig
from sns.data.dataset import Dataset, load_dataset

CPU = torch.device("cpu")
Arrays = dict[str, np.ndarray]


def arrays(train: int, test: int, classes: int, size: int) -> Arrays:
    """Images (N, 3, H, W) and labels from 0."""
    rng = np.random.default_rng(0)
    content = {}
    for split, count in (("train", train), ("test", test)):
        content[f"x_{split}"] = rng.integers(0, 256, (count, 3, size, size), dtype=np.uint8)
        content[f"y_{split}"] = rng.permutation(np.arange(count) % classes)
    return content


def write_pickle(path: Path, content: dict[str, Any]) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


def rows(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), -1)  # red, green, blue planes, each by rows


def write_cifar10(folder: Path, content: Arrays) -> None:
    parts = zip(np.split(content["x_train"], 5), np.split(content["y_train"], 5), strict=True)
    for number, (x, y) in enumerate(parts, start=1):
        write_pickle(folder / f"data_batch_{number}", {"data": rows(x), "labels": y.tolist()})
    write_pickle(folder / "test_batch", {"data": rows(content["x_test"]), "labels": content["y_test"].tolist()})
    write_pickle(folder / "batches.meta", {"label_names": [str(i) for i in range(10)]})


def write_cifar100(folder: Path, content: Arrays) -> None:
    for split in ("train", "test"):
        y = content[f"y_{split}"]
        fine_and_coarse = {"fine_labels": y.tolist(), "coarse_labels": (y // 5).tolist()}
        write_pickle(folder / split, {"data": rows(content[f"x_{split}"]), **fine_and_coarse})
    write_pickle(folder / "meta", {"fine_label_names": [str(i) for i in range(100)]})


def write_stl10(folder: Path, content: Arrays) -> None:
    for split in ("train", "test"):
        content[f"x_{split}"].transpose(0, 1, 3, 2).tofile(folder / f"{split}_X.bin")  # by columns
        (content[f"y_{split}"] + 1).astype(np.uint8).tofile(folder / f"{split}_y.bin")  # from 1
    (folder / "class_names.txt").write_text("\n".join("abcdefghij"))


@dataclass(frozen=True)
class Official:
    """A published data set: unpacked at `folder` below `root`, packed at `tar` behind its URL."""

    name: str
    kind: Any
    root: Path
    folder: Path
    tar: Path
    content: Arrays

    def read(self, download: bool = False, root: Path | None = None) -> Dataset:
        """The set as training sees it, without contrast normalization."""
        return load_dataset(DataConfig(name=self.name, root=str(root or self.root), download=download, gcn="none"), CPU)

    def check(self, data: Dataset) -> None:
        """Asserts that `data` is pixel for pixel the published set."""
        for images, split in ((data.train, "train"), (data.test, "test")):
            assert torch.equal((images.x * 255).round().byte(), torch.from_numpy(self.content[f"x_{split}"]))
            assert torch.equal(images.y, torch.from_numpy(self.content[f"y_{split}"]))

    def refused(self, match: str, download: bool = False, root: Path | None = None) -> str:
        """The one sentence with which reading is refused."""
        with pytest.raises(DataError, match=match) as caught:
            self.read(download, root)
        text = str(caught.value)
        assert "\n" not in text
        assert "; " in text  # what to do
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__ or caught.value.__context__ is None
        return text

    @property
    def checked_files(self) -> list[Path]:
        """The files that have an official checksum."""
        return sorted(path for path in self.folder.iterdir() if path.name != "class_names.txt")

    def repack(self, tar: Path) -> None:
        """Packs the present folder to `tar`."""
        pack(self.folder, tar)

    def visible(self) -> list[str]:
        """The files in the cache, without lock files."""
        return sorted(path.name for path in self.root.iterdir() if not path.name.endswith(".lock"))


FORMATS: dict[str, tuple[str, Callable[[Path, Arrays], None], tuple[int, int, int, int]]] = {
    "cifar10": ("CIFAR10", write_cifar10, (50, 20, 10, 32)),
    "cifar100": ("CIFAR100", write_cifar100, (200, 100, 100, 32)),
    "stl10": ("STL10", write_stl10, (20, 10, 10, 96)),
}


class Publisher:
    """Writes a data set and makes torchvision accept it as the official one."""

    def __init__(self, tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self._root, self._server, self._url, self._patch = tmp_path / "root", tmp_path / "server", url, monkeypatch

    def publish(self, name: str, write: Callable[[Path, Arrays], None] | None = None) -> Official:
        """The data set `name`, its files made by `write`."""
        from torchvision import datasets  # here: its import takes seconds

        title, usual, shape = FORMATS[name]
        kind = getattr(datasets, title)
        content = arrays(*shape)
        folder, tar = self._root / kind.base_folder, self._server / kind.filename
        folder.mkdir(parents=True)
        self._server.mkdir()
        (write or usual)(folder, content)
        official = Official(name, kind, self._root, folder, tar, content)
        self.recompute(official)
        pack(folder, tar)
        self.recompute_packed(official, tar)
        self._patch.setattr(kind, "url", f"{self._url}/{tar.name}")
        return official

    def recompute(self, official: Official) -> None:
        """Makes torchvision accept the present files as the official ones."""
        kind, folder = official.kind, official.folder
        for key in ("train_list", "test_list"):
            names = [name for name, _ in getattr(kind, key)]
            sums = [[name, md5(folder / name) if (folder / name).exists() else "0" * 32] for name in names]
            self._patch.setattr(kind, key, sums)
        if hasattr(kind, "meta"):
            self._patch.setattr(kind, "meta", kind.meta | {"md5": md5(folder / kind.meta["filename"])})

    def recompute_packed(self, official: Official, tar: Path) -> None:
        """Makes torchvision accept `tar` as the official archive."""
        self._patch.setattr(official.kind, "tgz_md5", md5(tar))


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def pack(folder: Path, tar: Path) -> None:
    with tarfile.open(tar, "w:gz", compresslevel=1) as archive:
        archive.add(folder, folder.name)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Nothing on the terminal."""


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[str]:
    """The address of an HTTP server over tmp_path/server."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    handler = partial(Quiet, directory=str(tmp_path / "server"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.fixture
def publisher(tmp_path, server, monkeypatch) -> Publisher:
    return Publisher(tmp_path, server, monkeypatch)


@pytest.fixture(params=FORMATS)
def official(request, publisher) -> Official:
    """Each of the three data sets."""
    return publisher.publish(request.param)


@pytest.fixture
def cifar(publisher) -> Official:
    """CIFAR-10."""
    return publisher.publish("cifar10")
