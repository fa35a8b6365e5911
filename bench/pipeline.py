"""Row 3: images a second into the training step, ours against torchvision behind a DataLoader."""

import os
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from bench.cells import Plan
from bench.line import Line, faster
from bench.timing import Work, paired
from sns.common import accelerator
from sns.data.augment import crop_and_flip
from sns.data.gcn import global_contrast_normalize
from sns.data.order import BatchOrder

SHAPES = {  # name: pixels a side, crop padding, flip, images a round on a CPU
    "CIFAR-shaped, no augmentation": (32, 0, False, 1_024),
    "CIFAR-shaped, crop 4 and flip": (32, 4, True, 1_024),
    "STL-shaped, crop 12 and flip": (96, 12, True, 256),
}
BATCH = 64


def pictures(count: int, side: int, classes: int) -> tuple[Any, list[int]]:
    """(N, H, W, 3) random bytes and labels, as torchvision's CIFAR classes hold them."""
    draw = np.random.default_rng(0)
    return draw.integers(0, 256, (count, side, side, 3), dtype=np.uint8), [i % classes for i in range(count)]


class Pictures(Dataset[tuple[Tensor, int]]):
    """torchvision's way: an array of bytes, a PIL image an item, a chain of transforms."""

    def __init__(self, data: Any, targets: list[int], transform: Any) -> None:
        self.data, self.targets, self.transform = data, targets, transform

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.data[index])), self.targets[index]


def normalize(x: Tensor) -> Tensor:
    """Contrast normalisation of one image (C, H, W), as in the settings."""
    return (x - x.mean()) / x.std(correction=0).clamp_min(1e-8)


def chain(side: int, padding: int, flip: bool) -> Any:
    """Transforms with our result: normalised first, so that zero padding means the same."""
    from torchvision import transforms

    steps: list[Any] = [transforms.ToTensor(), transforms.Lambda(normalize)]
    steps += [transforms.RandomCrop(side, padding)] if padding else []
    steps += [transforms.RandomHorizontalFlip()] if flip else []
    return transforms.Compose(steps)


def loader(
    images: tuple[Any, list[int]], size: int, padding: int, flip: bool, workers: int, device: torch.device
) -> DataLoader[tuple[Tensor, int]]:
    """A DataLoader with persistent workers, and pinned memory for a GPU."""
    data = Pictures(*images, chain(images[0].shape[1], padding, flip))
    options: dict[str, Any] = {"num_workers": workers, "persistent_workers": workers > 0}
    if workers and sys.platform == "linux":  # others import everything again for each worker
        options["multiprocessing_context"] = "fork"
    pinned = not accelerator.of(device).host
    return DataLoader(data, batch_size=size, shuffle=True, drop_last=True, pin_memory=pinned, **options)


def pipeline(plan: Plan) -> Iterator[Line]:
    """Row 3."""
    cores = os.cpu_count() or 1
    for name, (side, padding, flip, count) in SHAPES.items():
        count = 128 if plan.tiny else count * (8 if plan.gpu else 1)
        images = pictures(count, side, 10)
        works: dict[str, Work] = {"ours": resident(images, padding, flip, plan.device)}
        labels = {}
        for workers in sorted({0, 2, cores}) if not plan.tiny else [0]:
            key = f"w{workers}"
            labels[key] = f"torchvision + DataLoader, {workers} workers" + (" (all cores)" if workers == cores else "")
            works[key] = epoch_of(loader(images, BATCH, padding, flip, workers, plan.device), plan.device)
        taken = paired(works, plan.device, plan.budget / len(SHAPES), rounds=5)
        done = count // BATCH * BATCH
        for key, label in labels.items():
            ours, theirs = (done / np.median(taken[k]) for k in ("ours", key))
            note = f"{ours:,.0f} against {theirs:,.0f} images/s"
            what = f"{done} images, {name}"
            yield faster(3, what, label, taken["ours"], taken[key], target=5.0, note=note)


def resident(images: tuple[Any, list[int]], padding: int, flip: bool, device: torch.device) -> Work:
    """One epoch of ours: order, selection and augmentation of tensors on the device."""
    pixels = torch.from_numpy(images[0].transpose(0, 3, 1, 2).copy()).to(device)
    x, y = global_contrast_normalize(pixels, "std"), torch.tensor(images[1], device=device)
    order = BatchOrder(len(y), BATCH, torch.Generator().manual_seed(0), device)
    generator = torch.Generator(device).manual_seed(0)
    index = torch.empty(BATCH, dtype=torch.int64, device=device)

    def work() -> None:
        for _ in range(len(y) // BATCH):
            order.fill(index)
            crop_and_flip(x.index_select(0, index), padding, flip, generator)
            y.index_select(0, index)

    return work


def epoch_of(batches: DataLoader[tuple[Tensor, int]], device: torch.device) -> Work:
    """One epoch of the peer, onto the device."""

    def work() -> None:
        for x, y in batches:
            x.to(device, non_blocking=True), y.to(device, non_blocking=True)

    return work
