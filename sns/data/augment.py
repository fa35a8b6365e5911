"""Random crops and mirror images of a batch, as tensor operations on its device."""

import torch
import torch.nn.functional as F
from torch import Tensor

from sns.common import accelerator


def crop_and_flip(x: Tensor, padding: int, flip: bool, generator: torch.Generator) -> Tensor:
    """Images (B, C, H, W), each shifted at random with zeros at the borders, and flipped or not.

    An image is padded with `padding` zeros on each side and cropped to H x W at offsets that are
    uniform on 0..2*padding, for rows and columns separately; it is mirrored with probability 1/2.
    All draws come from `generator`, on the device of `x`. Images are contrast-normalised already,
    so that zero is their mean. Returns `x` itself when there is nothing to do; never changes `x`.
    """
    if padding == 0 and not flip:
        return x
    top, left = torch.zeros((2, len(x)), dtype=torch.int64, device=x.device)
    mirrored = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    if padding > 0:
        top, left = torch.randint(2 * padding + 1, (2, len(x)), generator=generator, device=x.device)
    if flip:
        mirrored = torch.rand(len(x), generator=generator, device=x.device) < 0.5
    return window(x, padding, top, left, mirrored)


def window(x: Tensor, padding: int, top: Tensor, left: Tensor, mirrored: Tensor) -> Tensor:
    """One H x W window of each zero-padded image of `x` (B, C, H, W).

    Window i starts at row top[i] and column left[i], both (B,) int64 in 0..2*padding; its columns
    are reversed where mirrored[i], (B,) bool.
    """
    if accelerator.of(x.device).host:
        return _by_image(x, padding, top, left, mirrored)
    return _by_index(x, padding, top, left, mirrored)


def _by_image(x: Tensor, padding: int, top: Tensor, left: Tensor, mirrored: Tensor) -> Tensor:
    """Copies the visible part of each image: on a CPU 2 to 4 times as fast as an index."""
    out = torch.zeros_like(x)
    source, target = x.numpy(), out.numpy()
    height, width = x.shape[2:]
    for i, (down, right, mirror) in enumerate(zip(top.tolist(), left.tolist(), mirrored.tolist(), strict=True)):
        rows, columns = _overlap(down - padding, height), _overlap(right - padding, width)
        place = target[i, :, :, ::-1] if mirror else target[i]
        place[:, rows[1], columns[1]] = source[i, :, rows[0], columns[0]]
    return out


def _overlap(shift: int, size: int) -> tuple[slice, slice]:
    """The part of 0..size-1 that a window moved by `shift` covers, and its place there."""
    return slice(max(shift, 0), size + min(shift, 0)), slice(max(-shift, 0), size - max(shift, 0))


def _by_index(x: Tensor, padding: int, top: Tensor, left: Tensor, mirrored: Tensor) -> Tensor:
    """One gather on the device, without waiting for it."""
    batch, channels, height, width = x.shape
    rows = top[:, None] + torch.arange(height, device=x.device)
    columns = torch.arange(width, device=x.device)
    columns = left[:, None] + torch.where(mirrored[:, None], width - 1 - columns, columns)
    places = rows[:, :, None] * (width + 2 * padding) + columns[:, None, :]  # in the flattened padded image
    padded = F.pad(x, (padding,) * 4).reshape(batch, channels, -1)
    return padded.gather(2, places.reshape(batch, 1, -1).expand(-1, channels, -1)).view(x.shape)
