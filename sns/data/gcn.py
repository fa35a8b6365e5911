"""Global contrast normalization (section 4): each image alone, over all channels and pixels."""

import torch
from torch import Tensor

L2_NORM = 55.0  # of every image under the l2 variant; sqrt(3072) = 55.4 is what std gives on 32x32x3
CHUNK_VALUES = 400_000  # normalised at once, so that the float64 copies fit a CPU's cache


def global_contrast_normalize(images: Tensor, variant: str) -> Tensor:
    """Images (N, C, H, W), uint8 or floating, as contrast-normalised float32 on the same device.

    std: minus the image's mean, divided by its standard deviation over C*H*W values (the biased
    one); l2: minus the mean, scaled to L2 norm 55; none: divided by 255. A constant image becomes
    zeros under std and l2. Statistics are in float64, so that devices agree. ValueError for another
    variant.
    """
    if variant not in ("std", "l2", "none"):
        raise ValueError(f"unknown contrast normalization {variant!r}; choose std, l2 or none")
    out = torch.empty(images.shape, dtype=torch.float32, device=images.device)
    count = max(1, CHUNK_VALUES // max(1, images.shape[1:].numel()))
    for start in range(0, len(images), count):
        part, target = images[start : start + count], out[start : start + count]
        if variant == "none":
            torch.div(part.float(), 255, out=target)
        else:
            _normalize(part, variant, target)
    return out


def _normalize(images: Tensor, variant: str, out: Tensor) -> None:
    exact = images.double()
    axes = (1, 2, 3)
    # The mean of equal floats can have a rounding error, which a tiny scale would magnify.
    constant = exact.amax(axes, keepdim=True) == exact.amin(axes, keepdim=True)
    centred = exact.sub_(exact.mean(axes, keepdim=True))
    norm = torch.linalg.vector_norm(centred, dim=axes, keepdim=True)
    scale = norm / (images[0].numel() ** 0.5 if variant == "std" else L2_NORM)
    # Rounding both to float32 first removes the last bits, in which devices differ.
    torch.div(centred.float(), scale.masked_fill_(constant, torch.inf).float(), out=out)
