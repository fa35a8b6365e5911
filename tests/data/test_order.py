"""The wrap-around order of batches."""

import io

import pytest
import torch

from sns.data.order import BatchOrder


def order(n: int, size: int, seed: int = 0) -> BatchOrder:
    return BatchOrder(n, size, torch.Generator().manual_seed(seed))


def draw(stream: BatchOrder) -> torch.Tensor:
    """The next batch."""
    batch = torch.full((stream.size,), -1)
    stream.fill(batch)
    return batch


@pytest.mark.parametrize(("n", "size"), [(10, 5), (10, 3), (10, 10), (10, 23), (1, 4), (50, 8)])
def test_batches_are_consecutive_pieces_of_whole_permutations(n, size):
    stream = order(n, size)
    batches = [draw(stream) for _ in range(3 * n)]
    assert all(batch.shape == (size,) and batch.dtype == torch.int64 for batch in batches)
    joined = torch.cat(batches)
    generator = torch.Generator().manual_seed(0)
    expected = torch.cat([torch.randperm(n, generator=generator) for _ in range(-(-len(joined) // n))])
    assert torch.equal(joined, expected[: len(joined)])


def test_an_epoch_sees_every_image_once_and_epochs_differ():
    stream = order(100, 30)
    joined = torch.cat([draw(stream) for _ in range(10)]).view(3, 100)
    for epoch in joined:
        assert torch.equal(epoch.sort().values, torch.arange(100))
    assert not torch.equal(joined[0], joined[1])
    assert not torch.equal(joined[0], torch.arange(100))


def test_the_seed_decides():
    first, again, other = order(40, 8), order(40, 8), order(40, 8, seed=1)
    batches = [draw(stream) for stream in (first, again, other)]
    assert torch.equal(batches[0], batches[1])
    assert not torch.equal(batches[0], batches[2])


@pytest.mark.parametrize(("n", "size", "taken"), [(10, 4, 0), (10, 4, 2), (10, 5, 2), (10, 25, 3)])
def test_state_continues_exactly(n, size, taken):
    stream = order(n, size)
    for _ in range(taken):
        draw(stream)
    file = io.BytesIO()
    torch.save(stream.state_dict(), file)
    expected = [draw(stream) for _ in range(9)]
    file.seek(0)
    resumed = order(n, size, seed=99)
    draw(resumed)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert all(torch.equal(draw(resumed), batch) for batch in expected)


def test_a_saved_state_does_not_move_with_the_stream():
    stream = order(6, 4)
    draw(stream)
    state = stream.state_dict()
    expected = [draw(stream) for _ in range(5)]
    for _ in range(2):  # loading twice from one dictionary gives the same both times
        resumed = order(6, 4, seed=5)
        resumed.load_state_dict(state)
        assert all(torch.equal(draw(resumed), batch) for batch in expected)


def test_a_batch_does_not_change_when_the_caller_writes_to_it():
    stream, twin = order(6, 3), order(6, 3)
    draw(stream).fill_(-1)
    draw(twin)
    assert torch.equal(draw(stream), draw(twin))
    assert stream.state_dict()["permutation"].min() == 0


def test_state_of_another_set_is_refused():
    with pytest.raises(ValueError, match="10 images, this one for 11"):
        order(11, 4).load_state_dict(order(10, 4).state_dict())


@pytest.mark.parametrize(("n", "size"), [(0, 4), (4, 0)])
def test_nothing_to_order_is_refused(n, size):
    with pytest.raises(ValueError, match=f"n={n}, size={size}"):
        order(n, size)
