"""Archives enter a cache that many runs share: whole or not at all."""

import contextlib
import shutil
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from sns.data import archives, cache


def test_download_puts_the_whole_folder_in_place(official, tmp_path):
    root = tmp_path / "new" / "cache"
    official.check(official.read(download=True, root=root))
    assert sorted(path.name for path in root.iterdir()) == sorted(
        [official.folder.name, f".{official.folder.name}.lock"]
    )
    official.tar.unlink()  # the second time needs no network
    official.check(official.read(download=True, root=root))


def test_an_archive_put_there_by_hand_needs_no_network(official, tmp_path):
    shutil.rmtree(official.folder)
    shutil.copy(official.tar, official.root)
    official.tar.unlink()
    official.check(official.read(download=False))
    assert official.visible() == sorted([official.folder.name, official.tar.name])


def test_missing_with_download_off(official):
    shutil.rmtree(official.folder)
    text = official.refused("does not exist and data.download=false; put .* or set data.download=true")
    assert text.startswith(str(official.folder))
    assert official.visible() == []


def test_no_network(cifar, monkeypatch):
    shutil.rmtree(cifar.folder)
    monkeypatch.setattr(cifar.kind, "url", "https://127.0.0.1:9/cifar-10-python.tar.gz")  # no server is there
    cifar.refused("could not be downloaded .*refused.*; connect to the network, or put cifar-10-python", download=True)
    assert cifar.visible() == []


@pytest.mark.parametrize("damage", ["gone", "cut", "other"])
def test_a_download_that_goes_wrong_leaves_nothing(cifar, damage):
    shutil.rmtree(cifar.folder)
    match damage:
        case "gone":
            cifar.tar.unlink()
        case "cut":
            cifar.tar.write_bytes(cifar.tar.read_bytes()[:-100])
        case "other":
            cifar.tar.write_bytes(b"<html>please log in</html>")
    cifar.refused("cifar-10-batches-py does not exist and .* could not be downloaded", download=True)
    assert cifar.visible() == []


def test_an_interrupted_download_leaves_nothing(cifar, monkeypatch):
    def interrupted(url, root, **_):
        (Path(root) / "part").write_text("half")
        raise KeyboardInterrupt

    shutil.rmtree(cifar.folder)
    monkeypatch.setattr("torchvision.datasets.utils.download_and_extract_archive", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cifar.read(download=True)
    assert cifar.visible() == []


def test_scratch_files_of_a_killed_download_are_removed(cifar):
    shutil.rmtree(cifar.folder)
    left = cifar.root / ".cifar-10-batches-py.abc.tmp"
    left.mkdir()
    (left / "cifar-10-python.tar.gz").write_text("half")
    cifar.check(cifar.read(download=True))
    assert cifar.visible() == ["cifar-10-batches-py"]


def test_a_full_disk_is_not_blamed_on_the_network(cifar, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    shutil.rmtree(cifar.folder)
    monkeypatch.setattr("torchvision.datasets.utils.download_and_extract_archive", full)
    cifar.refused("cannot be written .*No space left on device.*; free space there or set data.root", download=True)
    assert cifar.visible() == []


def test_a_root_that_is_a_file(cifar, tmp_path):
    (tmp_path / "file").write_text("")
    cifar.refused("cannot be written", download=True, root=tmp_path / "file")


@pytest.mark.parametrize("how", ["flipped", "cut", "not whole"])
def test_a_damaged_archive_is_refused_and_kept(official, how, publisher):
    tar = official.root / official.tar.name
    if how == "not whole":
        official.checked_files[0].unlink()
        official.repack(tar)
        publisher.recompute_packed(official, tar)
    else:
        good = official.tar.read_bytes()
        tar.write_bytes(good[:-50] if how == "cut" else good[:60] + bytes([good[60] ^ 1]) + good[61:])
    shutil.rmtree(official.folder)
    fault = f"does not hold {official.folder.name}/" if how == "not whole" else "is damaged"
    assert official.refused(fault, download=True).startswith(str(tar))
    assert official.visible() == [tar.name]


@pytest.mark.parametrize("how", ["cut", "no tar"])
def test_an_archive_that_cannot_be_unpacked_although_its_checksum_is_right(cifar, how, publisher):
    shutil.rmtree(cifar.folder)
    tar = cifar.root / cifar.tar.name
    tar.write_bytes(cifar.tar.read_bytes()[:-2000] if how == "cut" else b"no gzip")
    publisher.recompute_packed(cifar, tar)
    assert cifar.refused("cannot be unpacked").startswith(str(tar))
    assert cifar.visible() == [tar.name]


@pytest.mark.parametrize("locks", [True, False])
def test_runs_that_start_together_share_one_cache(cifar, locks, monkeypatch):
    shutil.rmtree(cifar.folder)
    if not locks:
        monkeypatch.setattr(cache, "fcntl", None)
    monkeypatch.setattr(archives, "download_timeout", contextlib.nullcontext)  # it changes the whole process
    downloads: list[int] = []
    start = threading.Barrier(4)
    fetch, download = archives._fetch, archives._download

    def together(*arguments):
        start.wait(timeout=60)  # all have seen that the folder is missing
        fetch(*arguments)

    def counted(*arguments):
        downloads.append(1)
        if not locks:
            start.wait(timeout=60)
        download(*arguments)

    monkeypatch.setattr(archives, "_fetch", together)
    monkeypatch.setattr(archives, "_download", counted)
    with ThreadPoolExecutor(4) as pool:
        sets = list(pool.map(lambda _: cifar.read(download=True), range(4)))
    for data in sets:
        cifar.check(data)
    assert len(downloads) == (1 if locks else 4)
    assert cifar.visible() == ["cifar-10-batches-py"]


def test_a_server_that_never_answers_ends_the_download(cifar, monkeypatch):
    shutil.rmtree(cifar.folder)
    monkeypatch.setattr(archives, "download_timeout", partial(cache.download_timeout, 0.2))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(cifar.kind, "url", f"http://127.0.0.1:{silent.getsockname()[1]}/cifar-10-python.tar.gz")
        cifar.refused("could not be downloaded .*timed out", download=True)
    assert cifar.visible() == []
    assert socket.getdefaulttimeout() is None  # other connections are unchanged
