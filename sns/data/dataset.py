"""From a configuration to checked, contrast-normalised images on the training device."""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sns.common.errors import DataError
from sns.common.memory import require_device
from sns.config.schema import DataConfig
from sns.data.gcn import global_contrast_normalize
from sns.data.raw import DATASETS, RawData, RawSplit, check
from sns.data.resize import area_average
from sns.data.subset import balanced_indices


@dataclass(frozen=True)
class Images:
    """One split: x (N, C, H, W) float32, contrast-normalised, and y (N,) int64, on one device."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class Dataset:
    """The training and test images of a run."""

    name: str
    train: Images
    test: Images
    classes: int
    fingerprint: str  # hex digest of the chosen images and labels as bytes, before normalization
    note: str | None  # what a reader must know about the images

    @property
    def channels(self) -> int:
        """C."""
        return self.train.x.shape[1]

    @property
    def image_size(self) -> int:
        """H, which is W."""
        return self.train.x.shape[2]


def load_dataset(config: DataConfig, device: torch.device) -> Dataset:
    """The images that `config` names, checked, reduced, contrast-normalised and on `device`.

    Raises DataError for a missing or damaged archive, wrong arrays, a subset or held-out part
    larger than the set, a resolution that does not divide the images' size, or too little memory.
    """
    raw, classes = _read(config)
    train, test = raw.train, raw.test
    # float32 images, their bytes, and the float64 copies of one chunk during normalization
    require_device(5 * (train.x.size + test.x.size) + 200_000_000, device, f"the data set {config.name}")
    try:
        first, second = (_images(split, config.gcn, device) for split in (train, test))
    except torch.OutOfMemoryError:
        raise DataError(
            f"the data set {config.name} does not fit on {device}; keep fewer images with data.subset"
        ) from None
    return Dataset(config.name, first, second, classes, fingerprint(train, test), _note(raw, config))


def fingerprint_of(config: DataConfig) -> str:
    """The `fingerprint` that `load_dataset` gives; raises what it raises."""
    raw, _ = _read(config)
    return fingerprint(raw.train, raw.test)


def _read(config: DataConfig) -> tuple[RawData, int]:
    """The chosen images as bytes, and the number of classes."""
    raw = DATASETS[config.name](config)
    source = raw.source or config.name
    classes = check(raw, source)
    if config.holdout is not None:
        raw = _hold_out(raw, config.holdout, source)
    train = _smaller(_choose(raw.train, config.subset, "subset", source), config.resolution, source)
    test = _smaller(_choose(raw.test, config.test_subset, "test_subset", source), config.resolution, source)
    return replace(raw, train=train, test=test), classes


def _choose(split: RawSplit, count: int | None, key: str, source: str) -> RawSplit:
    """The split or its balanced subset, contiguous, labels int64."""
    if count is not None:
        if count > len(split.y):
            raise DataError(
                f"data.{key}={count} is more than the {len(split.y)} images of {source}; choose fewer, or null for all"
            )
        split = split.take(balanced_indices(split.y, count))
    return RawSplit(np.ascontiguousarray(split.x), split.y.astype(np.int64))


def _hold_out(raw: RawData, count: int, source: str) -> RawData:
    """`raw` with `count` of its training images, balanced and fixed, as its test set."""
    if count >= len(raw.train.y):
        raise DataError(
            f"data.holdout={count} leaves none of the {len(raw.train.y)} training images of {source} to train on; "
            "hold out fewer"
        )
    held = np.zeros(len(raw.train.y), dtype=bool)
    held[balanced_indices(raw.train.y, count)] = True
    return replace(raw, train=raw.train.take(~held), test=raw.train.take(held))


def _smaller(split: RawSplit, side: int | None, source: str) -> RawSplit:
    """The split with images of `side` x `side` pixels; unchanged for None."""
    if side is None:
        return split
    if split.x.shape[2] % side != 0:
        raise DataError(
            f"data.resolution={side} does not divide the {split.x.shape[2]} pixels a side of {source}; "
            "choose a divisor, or null"
        )
    return RawSplit(area_average(split.x, side), split.y)


def _note(raw: RawData, config: DataConfig) -> str | None:
    """The changes to the images that a reader would not expect, and the note of their source."""
    cut = config.subset is not None or config.test_subset is not None or config.holdout is not None
    parts = [f"{raw.note}, counted before the subset was taken" if raw.note is not None and cut else raw.note]
    if config.resolution is not None:
        parts.append(f"reduced to {config.resolution}x{config.resolution} by area averaging")
    if config.holdout is not None:
        parts.append(f"test split: {config.holdout:,} held-out training images, not the test set")
    return "; ".join(part for part in parts if part is not None) or None


def fingerprint(*splits: RawSplit) -> str:
    """32 hex digits over shapes, pixels (C, H, W order) and labels: equal on every machine."""
    digest = hashlib.blake2b(digest_size=16)
    for split in splits:
        digest.update(repr(split.x.shape).encode())
        digest.update(np.ascontiguousarray(split.x).data)
        digest.update(split.y.astype("<i8").data)
    return digest.hexdigest()


def _images(split: RawSplit, variant: str, device: torch.device) -> Images:
    pixels = torch.from_numpy(split.x).to(device)  # as bytes: a quarter of the transfer
    return Images(global_contrast_normalize(pixels, variant), torch.from_numpy(split.y).to(device))
