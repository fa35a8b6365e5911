"""Contrast normalization against a loop over images in numpy."""

import numpy as np
import pytest
import torch

from sns.data import gcn
from sns.data.gcn import global_contrast_normalize


def pixels(n: int = 7, channels: int = 3, size: int = 6) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, channels, size, size), dtype=np.uint8)


def reference(images: np.ndarray, variant: str) -> np.ndarray:
    out = np.zeros(images.shape)
    for i, image in enumerate(images.astype(np.float64)):
        centred = image - np.mean(image)
        length = np.std(image) if variant == "std" else np.sqrt(np.sum(centred**2)) / 55
        out[i] = centred / length if length > 0 else 0
    return out


@pytest.mark.parametrize("variant", ["std", "l2"])
def test_equals_numpy_over_all_channels_and_pixels(variant):
    images = pixels()
    images[2] = 17  # constant
    images[3, 0] = 200  # one constant channel is no constant image
    got = global_contrast_normalize(torch.from_numpy(images), variant)
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got.numpy(), reference(images, variant), rtol=3e-7, atol=1e-7)
    assert torch.equal(got[2], torch.zeros_like(got[2]))


def test_a_nearly_constant_image_is_not_taken_for_a_constant_one():
    images = np.full((1, 1, 4, 4), 255, dtype=np.uint8)
    images[0, 0, 0, 0] = 254
    got = global_contrast_normalize(torch.from_numpy(images), "std").double()
    assert got.std(correction=0).item() == pytest.approx(1, abs=1e-6)


def test_constant_floats_become_zeros_although_their_mean_is_rounded():
    images = torch.full((1, 3, 7, 7), 0.1)
    assert torch.count_nonzero(global_contrast_normalize(images, "l2")) == 0


def test_none_divides_bytes_by_255():
    images = pixels()
    got = global_contrast_normalize(torch.from_numpy(images), "none").numpy()
    np.testing.assert_array_equal(got, images.astype(np.float32) / np.float32(255))


@pytest.mark.parametrize("variant", ["std", "l2", "none"])
def test_chunks_do_not_show(variant, monkeypatch):
    images = torch.from_numpy(pixels())
    whole = global_contrast_normalize(images, variant)
    monkeypatch.setattr(gcn, "CHUNK_VALUES", 3 * images[0].numel() + 1)
    assert torch.equal(global_contrast_normalize(images, variant), whole)


def test_scale_and_input_are_left_alone():
    images = torch.from_numpy(pixels()).float()
    before = images.clone()
    got = global_contrast_normalize(images, "std")
    assert torch.equal(images, before)
    # floats are a rounding error apart, for 255 has no exact inverse
    torch.testing.assert_close(global_contrast_normalize(images / 255, "std"), got, rtol=1e-5, atol=1e-6)


def test_unknown_variant_is_refused():
    with pytest.raises(ValueError, match="zca"):
        global_contrast_normalize(torch.from_numpy(pixels()), "zca")
