"""Packs of images come back to the byte, and what is wrong with one is reported in a sentence."""

import json
import lzma
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from sns.common.errors import DataError
from sns.config.schema import DataConfig
from sns.data.dataset import load_dataset
from tools.offline_kit import pack, pixels

RNG = np.random.default_rng(0)
GREY = RNG.integers(-3, 4, (40, 32, 1, 1)).cumsum(1) + RNG.integers(-3, 4, (40, 1, 32, 1)).cumsum(2) + 128
GREY = GREY + RNG.integers(0, 12, (40, 32, 32, 1))
SMOOTH = (GREY + RNG.integers(0, 3, (40, 32, 32, 3))).astype(np.uint8)  # neighbours and colours are alike
KINDS = ["npz", "npz compressed", "npz grey", "cifar10", "cifar100", "cifar100 of Python 2", "stl10"]
PART = 20_000


def write(kind: str, root: Path) -> Path:
    """A small archive of `kind` as its makers or numpy write it."""
    y, planes = np.arange(40) % 10, SMOOTH.transpose(0, 3, 1, 2).reshape(40, -1)
    if kind.startswith("npz"):
        source = root / "cifar10.npz"
        save = np.savez_compressed if kind == "npz compressed" else np.savez
        x = SMOOTH[..., :1] if kind == "npz grey" else SMOOTH
        save(source, x_train=x[:30], y_train=y[:30], x_test=x[:10], y_test=y[:10], not_exact=np.arange(2))
        return source
    source = root / {"cifar10": "cifar-10-batches-py", "stl10": "stl10_binary"}.get(kind, "cifar-100-python")
    source.mkdir()
    if kind == "stl10":
        np.kron(SMOOTH[:8], np.ones((1, 3, 3, 1), np.uint8)).transpose(0, 3, 2, 1).tofile(source / "train_X.bin")
        (y[:8] + 1).astype(np.uint8).tofile(source / "train_y.bin")
        (source / "unlabeled_X.bin").write_bytes(b"never read")
    for name in ["data_batch_1", "test_batch"] if kind == "cifar10" else ["train", "test"] if kind != "stl10" else []:
        content = {"data": planes, "fine_labels": y.tolist(), "filenames": [f"{i}.png" for i in range(40)]}
        (source / name).write_bytes(python2(planes) if "2" in kind else pickle.dumps(content, 4))
    return source


def python2(planes: np.ndarray) -> bytes:
    """A pickle of protocol 2 with the bytes as Python 2 wrote them in the official files."""
    data = planes.tobytes()
    return b"\x80\x02}U\x04dataT" + len(data).to_bytes(4, "little") + data + b"s."


def contents(place: Path) -> dict[str, bytes]:
    files = [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file())
    return {path.relative_to(place).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """The manifest of a packed .npz in several parts."""
    (tmp_path / "packed").mkdir()
    return pack.pack(write("npz", tmp_path), tmp_path / "packed", PART)


def visible(out: Path) -> list[str]:
    """What lies in `out`, less lock files."""
    return sorted(path.name for path in out.glob("*") if not path.name.endswith(".lock"))


def refused(manifest: Path, out: Path, match: str) -> str:
    """The sentence with which unpacking is refused; nothing has become visible."""
    before = visible(out)
    with pytest.raises(DataError, match=match) as caught:
        pack.unpack(manifest, out)
    assert visible(out) == before
    text = str(caught.value)
    assert "\n" not in text
    assert "; " in text  # what to do
    return text


@pytest.mark.parametrize("kind", KINDS)
def test_round_trip_to_the_byte(kind: str, tmp_path: Path) -> None:
    source = write(kind, tmp_path)
    manifest = pack.pack(source, tmp_path / "packed", PART)
    parts = sorted((tmp_path / "packed").glob("*.pack.[0-9]*"))
    assert 0 < max(part.stat().st_size for part in parts) <= PART
    assert pack.unpack(manifest, tmp_path / "out")
    before = {name: data for name, data in contents(source).items() if name not in pack.UNREAD}
    assert contents(tmp_path / "out" / source.name) == before
    if kind != "npz compressed":  # whose images are not recompressed
        pieces = [piece for file in pack.load(manifest)["files"] for piece in file["pieces"]]
        image_bytes = sum(int(np.prod(piece["shape"])) for piece in pieces if piece["kind"] == "images")
        assert image_bytes > 0.9 * sum(len(data) for data in before.values())
        assert sum(part.stat().st_size for part in parts) < 0.75 * image_bytes


def test_images_of_an_official_set_are_read_from_the_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels, "PIECE", 7 * 3072)  # several pieces, the last one smaller
    manifest = pack.pack(write("npz", tmp_path), tmp_path / "packed", PART)
    assert sum(piece["kind"] == "images" for piece in pack.load(manifest)["files"][0]["pieces"]) == 5 + 2
    pack.unpack(manifest, tmp_path / "out")
    plain, again = (
        load_dataset(DataConfig(name="npz", path=str(folder / "cifar10.npz")), torch.device("cpu"))
        for folder in (tmp_path, tmp_path / "out")
    )
    assert again.fingerprint == plain.fingerprint
    assert again.note == plain.note == "CIFAR-10, 2 of 40 images from JPEG"


@pytest.mark.parametrize("shape", [(3, 1, 1, 3), (1, 4, 5, 1), (2, 5, 4, 4), (5, 8, 8, 3)])
def test_any_images_survive(shape: tuple[int, int, int, int]) -> None:
    for images in (RNG.integers(0, 256, shape, np.uint8), np.full(shape, 255, np.uint8), np.zeros(shape, np.uint8)):
        again = pixels.decode(pixels.encode(images), shape)
        assert again.dtype == np.uint8
        assert np.array_equal(again, images)


def test_similar_neighbours_and_colours_compress_better() -> None:
    packed = len(pixels.encode(SMOOTH))
    assert packed < 0.95 * len(lzma.compress(SMOOTH.tobytes()))
    assert packed < 0.9 * sum(len(pixels.encode(SMOOTH[..., [channel]])) for channel in range(3))


def test_many_images_lie_in_few_pictures() -> None:
    """More than one picture, the last one not full, and images so wide that few fit a row."""
    many = RNG.integers(0, 256, (700, 2, 3, 3), np.uint8)
    assert pixels.encode(many).count(b"WEBPVP8L") == 2
    wide = RNG.integers(0, 256, (5, 1, 9_000, 1), np.uint8)
    for images in (many, wide):
        assert np.array_equal(pixels.decode(pixels.encode(images), images.shape), images)


def test_an_existing_file_is_not_overwritten(packed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert pack.unpack(packed, out)
    place, before = out / "cifar10.npz", (out / "cifar10.npz").stat().st_mtime_ns
    for part in packed.parent.glob("*.pack.0*"):
        part.unlink()  # not needed any more
    assert not pack.unpack(packed, out)
    assert place.stat().st_mtime_ns == before
    data = place.read_bytes()
    place.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    refused(packed, out, "is not what the pack of cifar10.npz holds; move .* away")


def test_a_missing_part_is_named(packed: Path, tmp_path: Path) -> None:
    part = packed.parent / "cifar10.npz.pack.002"
    part.unlink()
    assert refused(packed, tmp_path / "out", "is missing; copy it").startswith(str(part))


@pytest.mark.parametrize("how", ["flipped", "cut", "empty", "another's"])
def test_a_damaged_part_is_named(how: str, packed: Path, tmp_path: Path) -> None:
    part = packed.parent / "cifar10.npz.pack.002"
    good = part.read_bytes()
    other = part.with_name("cifar10.npz.pack.001").read_bytes()
    part.write_bytes(
        {"flipped": good[:-1] + bytes([good[-1] ^ 1]), "cut": good[:-1], "empty": b"", "another's": other}[how]
    )
    assert refused(packed, tmp_path / "out", "is damaged .*; copy it again").startswith(str(part))


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("format", 99, "has format 99"),
        ("name", "../elsewhere", "not the manifest of a pack"),
        ("name", "..", "not the manifest of a pack"),
        ("parts", None, "not the manifest of a pack"),
        ("files", [{"path": "../../elsewhere", "bytes": 1, "sha256": "", "pieces": []}], "not the manifest of a pack"),
        ("files", [{"path": "", "bytes": 0, "sha256": "0", "pieces": []}], "is not what was packed"),
        ("files", [{"path": "", "bytes": 0, "sha256": "0", "pieces": [{"kind": "bytes"}]}], "does not fit its parts"),
    ],
)
def test_a_wrong_manifest_is_refused(key: str, value: object, match: str, packed: Path, tmp_path: Path) -> None:
    packed.write_text(json.dumps(json.loads(packed.read_text()) | {key: value}))
    refused(packed, tmp_path / "out", match)
    assert not (tmp_path / "elsewhere").exists()


def test_a_wrong_sum_of_the_whole_is_noticed(packed: Path, tmp_path: Path) -> None:
    content = json.loads(packed.read_text())
    content["files"][0]["sha256"] = "0" * 64
    packed.write_text(json.dumps(content))
    refused(packed, tmp_path / "out", "is not what was packed; copy the pack again")


def test_an_interrupted_unpacking_leaves_nothing(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, decode, left = tmp_path / "out", pixels.decode, tmp_path / "out" / ".cifar10.npz.killed.tmp"

    def stopped(data: bytes, shape: tuple[int, int, int, int]) -> np.ndarray:
        if shape[0] == 10:  # the second of two
            raise KeyboardInterrupt
        return decode(data, shape)

    with monkeypatch.context() as patch:
        patch.setattr(pixels, "decode", stopped)
        with pytest.raises(KeyboardInterrupt):
            pack.unpack(packed, out)
    assert not (out / "cifar10.npz").exists()
    left.mkdir()  # as SIGKILL leaves it
    (left / "cifar10.npz").write_bytes(b"half")
    assert pack.unpack(packed, out)
    assert sorted(path.name for path in out.iterdir()) == [".cifar10.npz.lock", "cifar10.npz"]


def test_no_room_is_reported_before_anything_is_written(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    refused(packed, tmp_path / "out", "needs 0 MB but 0 MB are free; make room")


def test_a_place_that_cannot_be_written_is_reported(packed: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused(packed, tmp_path / "file" / "out", "cannot be written")
    with pytest.raises(DataError, match="cannot be written"):
        pack.pack(tmp_path / "cifar10.npz", tmp_path / "file" / "out", PART)


def test_a_wrong_source_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "images.tar.gz").write_bytes(b"x")
    (tmp_path / "broken.npz").write_bytes(b"PK")
    np.save(tmp_path / "single.npy", SMOOTH)
    (tmp_path / "single.npy").rename(tmp_path / "single.npz")
    for name, match in (
        ("nowhere", "is neither an .npz file nor a folder"),
        ("images.tar.gz", "is neither an .npz file nor a folder"),
        ("empty", "holds no files"),
        ("broken.npz", "cannot be read as .npz"),
        ("single.npz", "cannot be read as .npz"),
    ):
        with pytest.raises(DataError, match=match):
            pack.pack(tmp_path / name, tmp_path / "packed", PART)
        assert not list(tmp_path.glob(f"packed/{name}*"))


def test_packing_again_leaves_no_part_of_before(packed: Path, tmp_path: Path) -> None:
    assert len(list(packed.parent.glob("*.pack.0*"))) > 1
    pack.pack(tmp_path / "cifar10.npz", packed.parent, pack.MIB)
    assert [path.name for path in sorted(packed.parent.iterdir())] == ["cifar10.npz.pack.001", "cifar10.npz.pack.json"]
    assert pack.unpack(packed, tmp_path / "out")


def test_the_script_restores_a_folder_of_packs(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    for state in ("unpacked", "there already, checked"):
        assert pack.main([str(packed.parent), "--out", str(out)]) == 0
        assert capsys.readouterr().out == f"{out / 'cifar10.npz'}: {state}\n"
    for wrong in (out, out / "nothing"):
        assert pack.main([str(wrong), "--out", str(out)]) == 1
        text = capsys.readouterr().err
        assert text.startswith("error: ")
        assert text.count("\n") == 1
