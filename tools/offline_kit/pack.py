"""Packs an archive of images into a few small files, and restores it to the byte.

python -m tools.offline_kit.pack PACKS --out FOLDER  # data.path=FOLDER/cifar10.npz

The pack of cifar10.npz is cifar10.npz.pack.001, .002, ... and the manifest cifar10.npz.pack.json,
which lists their contents. Images are compressed as images, the bytes between them by lzma.
"""

import hashlib
import io
import json
import lzma
import shutil
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from sns.common.command import Parser, reports_errors
from sns.common.errors import DataError, first_line
from sns.common.files import write_text
from sns.data.cache import install, locked, scratch, sweep
from tools.offline_kit import pixels
from tools.offline_kit.pixels import Block

MIB = 1 << 20
FORMAT = 1
MANIFEST = ".pack.json"
UNREAD = {"unlabeled_X.bin"}  # of STL-10: 2.6 GB that the project does not read
DAMAGE = (lzma.LZMAError, zlib.error, ValueError, KeyError, TypeError, AttributeError, IndexError)


def pack(source: Path, out: Path, part_bytes: int) -> Path:
    """Packs `source` into parts of at most `part_bytes` in the folder `out`; returns the manifest.

    `source` is an .npz file or the unpacked folder of CIFAR-10, CIFAR-100 or STL-10. The manifest
    is written last. DataError if `source` is neither, is damaged, or `out` cannot be written.
    """
    manifest = out / f"{source.name}{MANIFEST}"
    stream, files = io.BytesIO(), []
    for name, path in _sources(source):
        data = _read(path)
        pieces = [_packed(data, piece, stream) for piece in pixels.pieces(data, pixels.blocks(path, data))]
        files.append({"path": name, "bytes": len(data), "sha256": sha256(data), "pieces": pieces})
    try:
        out.mkdir(parents=True, exist_ok=True)
        manifest.unlink(missing_ok=True)  # before its parts, so that it never describes others
        for old in out.glob(f"{source.name}.pack.[0-9][0-9][0-9]"):
            old.unlink()
        parts = list(_write_parts(stream.getbuffer(), out / f"{source.name}.pack", part_bytes))
        content = {"format": FORMAT, "name": source.name, "parts": parts, "files": files}
        write_text(manifest, json.dumps(content, indent=1) + "\n")
    except OSError as error:
        raise DataError(f"{out} cannot be written ({first_line(error)}); free space there or choose another") from None
    return manifest


def unpack(manifest: Path, out: Path) -> bool:
    """Restores the packed archive in `out`, whole or not at all; False if it is there already.

    DataError if a part is missing or damaged, if another file has its name, or if space is short.
    """
    content = load(manifest)
    place, size = out / content["name"], sum(file["bytes"] for file in content["files"])
    if _in_place(place, content):
        return False
    try:
        stream = io.BytesIO(b"".join(_part(manifest, part) for part in content["parts"]))
        out.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(out).free
        if free < size:
            raise DataError(f"{place} needs {size / 1e6:.0f} MB but {free / 1e6:.0f} MB are free; make room there")
        with locked(out / f".{place.name}.lock") as held:
            if _in_place(place, content):  # another process was faster
                return False
            if held:
                sweep(out, place.name)
            with scratch(out, place.name) as aside:
                for file in content["files"]:
                    _restore(file, stream, aside / content["name"] / file["path"], manifest)
                install(aside / content["name"], place)
    except OSError as error:
        raise DataError(f"{place} cannot be written ({first_line(error)}); free space there") from None
    except MemoryError:
        raise DataError(f"{manifest} does not fit into memory; use a larger machine") from None
    return True


def load(manifest: Path) -> dict[str, Any]:
    """The checked content of `manifest`; DataError if it is missing or not a manifest."""
    try:
        content: dict[str, Any] = json.loads(manifest.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise DataError(f"{manifest} has format {content['format']}, not {FORMAT}; pack again with this version")
        names = [content["name"], *(part["name"] for part in content["parts"])]
        paths = [PurePosixPath(file["path"]) for file in content["files"]]
        sizes = [int(entry["bytes"]) for entry in (*content["parts"], *content["files"])]
        if any(PurePosixPath(name).name != name or name in ("", "..") for name in names) or min(sizes) < 0:
            raise ValueError("a name contains a folder")
        if any(path.is_absolute() or ".." in path.parts for path in paths):
            raise ValueError("a path leads out of the folder")
    except OSError as error:
        raise DataError(f"{manifest} cannot be read ({first_line(error)}); copy it again") from None
    except DAMAGE as error:
        raise DataError(f"{manifest} is not the manifest of a pack ({first_line(error)}); copy it again") from None
    return content


def sha256(data: Any) -> str:
    """The SHA-256 of `data`, bytes, in hex."""
    return hashlib.sha256(data).hexdigest()


def _sources(source: Path) -> list[tuple[str, Path]]:
    """The files to pack, each with its path below `source` ("" where `source` is the file)."""
    if source.suffix == ".npz" and source.is_file():
        return [("", source)]
    if not source.is_dir():
        raise DataError(
            f"{source} is neither an .npz file nor a folder of a data set's unpacked files; "
            "name one, as data.path does or as torchvision leaves it below data.root"
        )
    files = [path for path in sorted(source.rglob("*")) if path.is_file() and path.name not in UNREAD]
    if not files:
        raise DataError(f"{source} holds no files; name the folder of a data set's unpacked files")
    return [(path.relative_to(source).as_posix(), path) for path in files]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({first_line(error)}); make it readable") from None
    except MemoryError:
        raise DataError(f"{path} does not fit into memory; use a larger machine") from None


def _packed(data: bytes, piece: Block | slice, stream: io.BytesIO) -> dict[str, Any]:
    """Appends the compressed piece to `stream`; returns its entry in the manifest."""
    if isinstance(piece, slice):
        return {"kind": "bytes", "packed": stream.write(lzma.compress(data[piece]))}
    block = np.frombuffer(data, np.uint8, piece.end - piece.start, piece.start).reshape(piece.shape)
    size = stream.write(pixels.encode(block.transpose(0, 2, 3, 1) if piece.planes else block))
    return {"kind": "images", "packed": size, "shape": list(piece.shape), "planes": piece.planes}


def _unpacked(piece: dict[str, Any], data: bytes) -> bytes:
    if piece["kind"] == "bytes":
        return lzma.decompress(data)
    n, a, b, c = (int(side) for side in piece["shape"])
    if not piece["planes"]:
        return pixels.decode(data, (n, a, b, c)).tobytes()
    return pixels.decode(data, (n, b, c, a)).transpose(0, 3, 1, 2).tobytes()


def _write_parts(data: memoryview, stem: Path, limit: int) -> Iterator[dict[str, Any]]:
    """Files of equal size, at most `limit` bytes each."""
    count = -(-len(data) // limit)
    size = -(-len(data) // count)
    for number in range(count):
        part = data[number * size : (number + 1) * size]
        path = stem.with_name(f"{stem.name}.{number + 1:03d}")
        path.write_bytes(part)
        yield {"name": path.name, "bytes": len(part), "sha256": sha256(part)}


def _part(manifest: Path, part: dict[str, Any]) -> bytes:
    path = manifest.parent / part["name"]
    if not path.is_file():
        raise DataError(f"{path} is missing; copy it to where {manifest.name} is")
    data = _read(path)
    if sha256(data) != part["sha256"]:
        raise DataError(f"{path} is damaged (its SHA-256 is not that of {manifest.name}); copy it again")
    return data


def _in_place(place: Path, content: dict[str, Any]) -> bool:
    """Whether the archive is at `place`, to the byte; DataError if something else is."""
    if not place.exists():
        return False
    for file in content["files"]:
        path = place / file["path"]
        if not path.is_file() or path.stat().st_size != file["bytes"] or sha256(_read(path)) != file["sha256"]:
            raise DataError(f"{path} is not what the pack of {place.name} holds; move {place} away and run again")
    return True


def _restore(file: dict[str, Any], stream: io.BytesIO, path: Path, manifest: Path) -> None:
    """Writes the next file of the stream to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with path.open("wb") as target:
        for piece in file["pieces"]:
            try:
                data = _unpacked(piece, stream.read(piece["packed"]))
            except DAMAGE as error:
                raise DataError(f"{manifest} does not fit its parts ({first_line(error)}); copy it again") from None
            digest.update(data)
            target.write(data)
    if digest.hexdigest() != file["sha256"]:
        raise DataError(f"{path.name} from {manifest} is not what was packed; copy the pack again")


@reports_errors
def main(arguments: list[str] | None = None) -> int:
    """Restores every pack of a folder."""
    parser = Parser(description="Restore packed images.")
    parser.add_argument("packs", type=Path, help="folder with packs")
    parser.add_argument("--out", type=Path, required=True, help="folder for the images")
    options = parser.parse_args(arguments)
    manifests = sorted(options.packs.glob(f"*{MANIFEST}"))
    if not manifests:
        raise DataError(f"{options.packs} holds no *{MANIFEST}; name the folder that holds the packs")
    for manifest in manifests:
        state = "unpacked" if unpack(manifest, options.out) else "there already, checked"
        print(f"{options.out / load(manifest)['name']}: {state}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
