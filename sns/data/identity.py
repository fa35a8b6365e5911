"""Which images a run is trained on: a file of one's own is identified by its content, not its name.

A digest is computed once for each file and stored in the user's cache folder, by path, size and
times. Without a readable or writable cache it is computed again.
"""

import hashlib
import json
import os
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sns.common.errors import RecordError, UserError
from sns.common.files import write_text
from sns.config.schema import Config, DataConfig
from sns.data.archives import CLASSES
from sns.data.dataset import fingerprint_of
from sns.data.npz import KEYS
from sns.record.store import Record

OFFICIAL = ("digits", *CLASSES)  # checked by a checksum or a test, whenever they are read
PIECE, ENTRIES = 1 << 22, 500  # bytes read at a time; files that the cache remembers
UNREADABLE = (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, MemoryError)


def cache_file() -> Path:
    """Where digests are stored."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "sns" / "digests.json"


def identified(config: Config) -> Config:
    """`config` with the content of its data file; unchanged where there is none that can be read.

    UserError if the configuration states the content of another file.
    """
    data = config.data
    if data is None or data.name != "npz":
        return config
    file = Path(data.path).expanduser()
    found = content_of(file)
    if None not in (found, data.content) and found != data.content:
        raise UserError(
            f"{file} holds other arrays than data.content={data.content} says: restore the file, or leave data.content"
            " out"
        )
    return replace(config, data=replace(data, content=found or data.content))


def content_of(file: Path) -> str | None:
    """32 hex digits over the four arrays of an .npz file; None where it cannot be read."""
    try:
        return _cached(file, "content", lambda: _digest(file))
    except UNREADABLE:
        return None


def require_same_images(config: Config, record: Record) -> None:
    """RecordError if the finished run `record` was trained on other images than `config` names.

    Nothing is compared where the record has no fingerprint or the images are not here.
    """
    data, recorded = config.data, record.images
    if data is None or data.name in OFFICIAL or recorded is None:
        return
    content = (record.config.get("data") or {}).get("content")
    if content is not None and content == data.content:
        return
    try:
        here = _fingerprint(data)
    except (UserError, *UNREADABLE):
        return
    if here != recorded:
        raise RecordError(
            f"{record.path} was trained on other images (fingerprint {recorded}) than {data.path or data.name} "
            f"holds ({here}): restore that file, or set another experiment.name"
        )


_computed: dict[str, str] = {}  # fingerprints of this process


def _fingerprint(data: DataConfig) -> str:
    """The fingerprint of the images that a run on `data` would be trained on."""
    what = f"{data.subset} {data.test_subset} {data.resolution} {data.holdout}"
    if data.name == "npz":
        return _cached(Path(str(data.path)).expanduser(), what, lambda: fingerprint_of(data))
    key = str(data)
    _computed[key] = _computed.get(key) or fingerprint_of(data)
    return _computed[key]


def _digest(file: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with zipfile.ZipFile(file) as archive:
        for key in KEYS:
            with archive.open(f"{key}.npy") as array:
                version = np.lib.format.read_magic(array)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                digest.update(f"{key} {read(array)}".encode())
                while piece := array.read(PIECE):
                    digest.update(piece)
    return digest.hexdigest()


def _cached(file: Path, what: str, compute: Callable[[], str]) -> str:
    """`compute()`, or what it gave for the same path, size and times before."""
    stat, name = file.stat(), str(file.resolve())
    mark = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]  # a copy may keep the first two
    known = _entries().get(name, {})
    values = known["values"] if known.get("mark") == mark else {}
    if not isinstance(values.get(what), str):
        values[what] = compute()
        entries = _entries() | {name: {"mark": mark, "values": values}}
        with suppress(OSError, ValueError):
            cache_file().parent.mkdir(parents=True, exist_ok=True)
            write_text(cache_file(), json.dumps(dict(list(entries.items())[-ENTRIES:])))
    return str(values[what])


def _entries() -> dict[str, dict[str, Any]]:
    """The content of the cache: file name to its mark and values; {} where it cannot be read."""
    try:
        content = json.loads(cache_file().read_text(encoding="utf-8"))
        return {str(name): {"mark": e["mark"], "values": dict(e["values"])} for name, e in content.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}
