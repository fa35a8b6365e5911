"""Files that are written completely or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C where PyYAML has it: ten times faster


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yields a temporary path in the same folder, for the caller to write.

    On success the file is synced and renamed to `path`; on failure it is removed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        temporary.unlink(missing_ok=True)


def clear_leftovers(directory: Path) -> None:
    """Removes temporary files of a killed process. The caller must hold the directory's lock."""
    for temporary in directory.glob(".*.tmp"):
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes `text` to `path` atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_yaml(path: Path) -> Any:
    """The content of a YAML file, plain values only.

    OSError, UnicodeDecodeError or yaml.YAMLError where it cannot be read.
    """
    return yaml.load(path.read_text(encoding="utf-8"), Loader=LOADER)
