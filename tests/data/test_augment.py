"""Crops and flips against a loop over images."""

import pytest
import torch

from sns.data.augment import _by_image, _by_index, crop_and_flip, window


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(batch: int = 6, channels: int = 3, height: int = 5, width: int = 4) -> torch.Tensor:
    return torch.randn(batch, channels, height, width, generator=stream(7))


def loop(x, padding, top, left, mirrored):
    out = torch.zeros_like(x)
    height, width = x.shape[-2:]
    for i in range(len(x)):
        for row in range(height):
            for column in range(width):
                from_row = row + int(top[i]) - padding
                from_column = (width - 1 - column if mirrored[i] else column) + int(left[i]) - padding
                if 0 <= from_row < height and 0 <= from_column < width:
                    out[i, :, row, column] = x[i, :, from_row, from_column]
    return out


def test_window_equals_the_loop_at_every_offset():
    padding = 2
    places = torch.cartesian_prod(torch.arange(5), torch.arange(5), torch.arange(2))
    x = images(len(places))
    top, left, mirrored = places[:, 0], places[:, 1], places[:, 2].bool()
    assert torch.equal(window(x, padding, top, left, mirrored), loop(x, padding, top, left, mirrored))


def placements(x, out, padding):
    """For each image the only (top, left, mirrored) that gives its crop."""
    places = [(t, s, m) for t in range(2 * padding + 1) for s in range(2 * padding + 1) for m in (False, True)]
    drawn = []
    for i in range(len(x)):
        one = x[i : i + 1]
        fits = [p for p in places if torch.equal(loop(one, padding, *([v] for v in p))[0], out[i])]
        assert len(fits) == 1, f"image {i} is no unique crop"
        drawn.append(fits[0])
    return drawn


def test_every_offset_and_both_sides_come_up_independently():
    x = images(300, 1, 3, 4)
    drawn = placements(x, crop_and_flip(x, 1, True, stream()), 1)
    assert set(drawn) == {(t, s, m) for t in range(3) for s in range(3) for m in (False, True)}
    # 300 draws over 3 (2) values: five standard deviations around 100 (150)
    for axis in (0, 1):
        for value in range(3):
            assert abs(sum(place[axis] == value for place in drawn) - 100) < 41
    assert abs(sum(place[2] for place in drawn) - 150) < 44


def test_flip_only_keeps_images_or_mirrors_them():
    x = images(64)
    out = crop_and_flip(x, 0, True, stream())
    mirrored = [torch.equal(out[i], x[i].flip(-1)) for i in range(64)]
    same = [torch.equal(out[i], x[i]) for i in range(64)]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert any(mirrored)
    assert any(same)


def test_crop_only_never_mirrors():
    x = images(40, 1, 3, 4)
    assert not any(mirrored for _, _, mirrored in placements(x, crop_and_flip(x, 2, False, stream()), 2))


def test_nothing_to_do_returns_the_same_tensor_and_draws_nothing():
    x, generator = images(), stream()
    before = generator.get_state()
    assert crop_and_flip(x, 0, False, generator) is x
    assert torch.equal(generator.get_state(), before)


def test_pure_and_repeatable():
    x = images(32)
    before = x.clone()
    first, again, other = (crop_and_flip(x, 2, True, stream(seed)) for seed in (0, 0, 1))
    assert torch.equal(x, before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.data_ptr() != x.data_ptr()


def test_strided_input():
    x = images().permute(0, 1, 3, 2)
    expected = crop_and_flip(x.contiguous(), 1, True, stream())
    assert torch.equal(crop_and_flip(x, 1, True, stream()), expected)


@pytest.mark.parametrize("side", [5, 8])
def test_copies_and_index_agree_to_the_bit(side: int):
    """Every offset of padding 3, mirrored or not; also images smaller than twice the padding."""
    offsets = torch.cartesian_prod(torch.arange(7), torch.arange(7), torch.arange(2))
    x = torch.randn(len(offsets), 2, side, side, generator=stream())
    arguments = (x, 3, offsets[:, 0], offsets[:, 1], offsets[:, 2].bool())
    assert torch.equal(_by_image(*arguments), _by_index(*arguments))


@pytest.mark.gpu
def test_nothing_returns_to_the_host():
    x, generator = images(512).cuda(), torch.Generator("cuda").manual_seed(0)
    crop_and_flip(x, 2, True, generator)
    torch.cuda.set_sync_debug_mode("error")
    try:
        crop_and_flip(x, 2, True, generator)
    finally:
        torch.cuda.set_sync_debug_mode("default")
