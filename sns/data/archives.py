"""CIFAR-10, CIFAR-100 and STL-10 through torchvision's classes, in a cache that runs may share."""

import errno
import tarfile
import zlib
from collections.abc import Iterator
from gzip import BadGzipFile
from http.client import HTTPException
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np

from sns.common.errors import DataError, first_line
from sns.common.memory import require_host
from sns.config.schema import DataConfig
from sns.data.cache import download_timeout, install, locked, scratch, sweep
from sns.data.raw import RawData, RawSplit, register

CLASSES = {"cifar10": 10, "cifar100": 100, "stl10": 10}
UNPACK_ERRORS = (RuntimeError, EOFError, tarfile.TarError, zlib.error, BadGzipFile)
FETCH_ERRORS = (*UNPACK_ERRORS, OSError, HTTPException)
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
READ_ERRORS = (OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError, UnpicklingError)


@register("cifar10")
@register("cifar100")
@register("stl10")
def read(config: DataConfig) -> RawData:
    """The official training and test images, from files below `data.root`.

    With `data.unlabelled` the training images are STL-10's unlabelled ones, all of class 0.
    DataError as in `fetch`, and if files are missing or fail their checksum.
    """
    name, (kind, root) = config.name, fetch(config)
    folder = root / kind.base_folder
    try:
        splits = [kind(str(root), **{_split_key(name): value}) for value in _split_values(config)]
        train, test = (RawSplit(_pixels(name, split.data), _labels(split)) for split in splits)
    except MemoryError:
        raise DataError(f"{folder} does not fit into memory; use a larger machine") from None
    except READ_ERRORS as error:
        raise DataError(_diagnosis(kind, root, error)) from None
    return RawData(train, test, CLASSES[name], source=f"{name} in {root}")


def fetch(config: DataConfig) -> tuple[Any, Path]:
    """torchvision's class of the data set and the folder of its files.

    Missing files are unpacked from the official archive there, or downloaded if `data.download`.
    DataError if that fails, or if they do not fit into memory.
    """
    kind, root = _kind(config.name, config.unlabelled), Path(config.root).expanduser()
    folder = root / kind.base_folder
    if not folder.is_dir():
        _fetch(kind, root, config.download)
    # Twice the files' size: torchvision joins the pieces of a set into one array.
    require_host(2 * sum(path.stat().st_size for path, _ in _files(kind, root) if path.is_file()), str(folder))
    return kind, root


def _kind(name: str, unlabelled: bool) -> Any:
    from torchvision import datasets  # here: its import takes seconds

    if name == "stl10" and not unlabelled:
        # Without the 2.6 GB of unlabelled images, whose checksum would be computed each time.
        return type("STL10", (datasets.STL10,), {"train_list": datasets.STL10.train_list[:2]})
    return {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100, "stl10": datasets.STL10}[name]


def _split_key(name: str) -> str:
    return "split" if name == "stl10" else "train"


def _split_values(config: DataConfig) -> tuple[Any, Any]:
    if config.name != "stl10":
        return True, False
    return "unlabeled" if config.unlabelled else "train", "test"


def _pixels(name: str, data: Any) -> Any:
    return data if name == "stl10" else data.transpose(0, 3, 1, 2)


def _labels(split: Any) -> Any:
    # STL-10's labels start at 1, torchvision's at 0: a missing label is 255 here, which `check`
    # refuses.
    if getattr(split, "split", "") == "unlabeled":
        return np.zeros(len(split.data), dtype=np.int64)
    return np.asarray(split.labels if hasattr(split, "labels") else split.targets, dtype=np.int64)


def _files(kind: Any, root: Path) -> Iterator[tuple[Path, str]]:
    """The files that torchvision opens below `root`, each with its MD5."""
    for name, md5 in [*kind.train_list, *kind.test_list]:
        yield root / kind.base_folder / name, md5
    if hasattr(kind, "meta"):
        yield root / kind.base_folder / kind.meta["filename"], kind.meta["md5"]


def _diagnosis(kind: Any, root: Path, error: BaseException) -> str:
    """One sentence that names the file at fault."""
    from torchvision.datasets.utils import check_integrity

    fix = f"move {root / kind.base_folder} away and run again with data.download=true"
    for path, md5 in _files(kind, root):
        if not path.is_file():
            return f"{path} is missing from the data set; {fix}"
        try:
            intact = check_integrity(path, md5)
        except OSError as fault:
            return f"{path} cannot be read ({first_line(fault)}); make it readable for this user"
        if not intact:
            return f"{path} is damaged (its checksum is not the official one); {fix}"
    return f"{root / kind.base_folder} cannot be read ({first_line(error)}); {fix}"


def _fetch(kind: Any, root: Path, download: bool) -> None:
    """Puts the unpacked folder of `kind` below `root`, whole or not at all."""
    archive, folder = root / kind.filename, root / kind.base_folder
    if not archive.is_file() and not download:
        raise DataError(
            f"{folder} does not exist and data.download=false; put {kind.filename} (from {kind.url}) into {root}, "
            "set data.root to where it is, or set data.download=true"
        )
    try:
        root.mkdir(parents=True, exist_ok=True)
        with locked(root / f".{kind.base_folder}.lock") as held:
            if folder.is_dir():  # another process was faster
                return
            if held:
                sweep(root, kind.base_folder)
            with scratch(root, kind.base_folder) as aside:
                if archive.is_file():
                    _unpack(kind, archive, aside)
                else:
                    _download(kind, aside, folder)
                install(aside / kind.base_folder, folder)
    except OSError as error:
        raise DataError(
            f"{folder} cannot be written ({first_line(error)}); free space there or set data.root to another folder"
        ) from None


def _unpack(kind: Any, archive: Path, aside: Path) -> None:
    from torchvision.datasets.utils import check_integrity, extract_archive

    fix = f"move it away and run again with data.download=true, or download it again from {kind.url}"
    if not check_integrity(archive, kind.tgz_md5):
        raise DataError(f"{archive} is damaged (its checksum is not the official one); {fix}")
    try:
        extract_archive(archive, aside)
    except UNPACK_ERRORS as error:
        raise DataError(f"{archive} cannot be unpacked ({first_line(error)}); {fix}") from None
    _require_whole(kind, aside, archive)


def _download(kind: Any, aside: Path, folder: Path) -> None:
    from torchvision.datasets.utils import download_and_extract_archive

    try:
        with download_timeout():
            download_and_extract_archive(kind.url, aside, filename=kind.filename, md5=kind.tgz_md5)
    except FETCH_ERRORS as error:
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            raise  # the disk's fault, which _fetch reports
        raise DataError(
            f"{folder} does not exist and {kind.url} could not be downloaded ({first_line(error)}); "
            f"connect to the network, or put {kind.filename} into {folder.parent} "
            f"(curl -L -o {kind.filename} {kind.url})"
        ) from None
    _require_whole(kind, aside, kind.url)


def _require_whole(kind: Any, aside: Path, source: Any) -> None:
    for path, _ in _files(kind, aside):
        if not path.is_file():
            raise DataError(f"{source} does not hold {path.relative_to(aside)}; download it again from {kind.url}")
