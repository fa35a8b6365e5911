"""The stand-in for a GPU refuses what a GPU refuses, and replays what it recorded."""

from collections.abc import Callable

import pytest
import torch
from stand_in import Stream
from torch import Tensor

from sns.common import accelerator
from sns.common.accelerator import Accelerator


@pytest.fixture
def device(stand_in: type[Accelerator]) -> Accelerator:
    device = accelerator.of(stand_in.at(0))
    device.select()
    return device


def capture(device: Accelerator, work: Callable[[], None], *generators: torch.Generator) -> Callable[[], None]:
    return device.capture(work, device.stream(), generators)


def test_a_capture_executes_nothing_and_a_replay_reads_its_tensors_anew(device: Accelerator) -> None:
    source, target, norm = torch.ones(3), torch.zeros(3), torch.nn.BatchNorm1d(2)
    drawn, generator = torch.zeros(3), torch.Generator().manual_seed(0)
    before = torch.get_rng_state()

    def work() -> None:
        target.add_(source * 2)
        drawn.copy_(torch.rand(3, generator=generator) + torch.rand(3))
        norm(torch.tensor([[1.0, 2.0], [3.0, 6.0]]))

    replay = capture(device, work, generator)
    assert target.tolist() == drawn.tolist() == [0, 0, 0]
    assert norm.running_mean is not None
    assert norm.running_mean.tolist() == [0, 0]
    assert torch.equal(torch.get_rng_state(), before)
    seen: list[Tensor] = []
    for scale in (1.0, 5.0):
        source.fill_(scale)
        replay()
        seen.append(drawn.clone())
    assert target.tolist() == [12, 12, 12]
    assert norm.running_mean.tolist() == pytest.approx([0.38, 0.76])
    again = torch.Generator().manual_seed(0)
    torch.set_rng_state(before)
    assert all(torch.equal(x, torch.rand(3, generator=again) + torch.rand(3)) for x in seen)


def test_what_the_graph_owns_is_undefined_until_a_replay(device: Accelerator) -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    replay = capture(device, lambda: (weight * 3).sum().backward())
    assert weight.grad is not None
    assert weight.grad.isnan().all()
    replay()
    assert weight.grad.tolist() == [3, 3]


@pytest.mark.parametrize(
    "work",
    [
        lambda: torch.ones(1).item(),
        lambda: torch.ones(1).numpy(),
        lambda: torch.ones(2).tolist(),
        lambda: bool(torch.ones(1) > 0),
        lambda: accelerator.of(torch.device("cpu", 0)).synchronize(),
    ],
)
def test_a_wait_in_a_capture_is_refused(device: Accelerator, work: Callable[[], None]) -> None:
    with pytest.raises(RuntimeError, match="not permitted when stream is capturing"):
        capture(device, work)


def test_an_unknown_generator_is_refused(device: Accelerator) -> None:
    generator = torch.Generator()
    with pytest.raises(RuntimeError, match="does not know a generator"):
        capture(device, lambda: torch.rand(1, generator=generator))


def test_a_device_without_an_index_is_refused(device: Accelerator) -> None:
    with pytest.raises(ValueError, match="specified index"):
        accelerator.of(torch.device("cpu")).select()


def test_streams_need_an_order_where_they_share_a_tensor(device: Accelerator) -> None:
    x, side = torch.ones(3), Stream("side")

    def work(join_first: bool, join: bool = True) -> None:
        with device.beside(side):
            x.add_(1)
        if join_first:
            device.join(side)
        x.mul_(2)
        if join and not join_first:
            device.join(side)

    capture(device, lambda: work(True))()
    assert x.tolist() == [4, 4, 4]
    with pytest.raises(RuntimeError, match="without an order"):
        capture(device, lambda: work(False))

    def forgotten() -> None:
        with device.beside(side):
            x.add_(1)

    with pytest.raises(RuntimeError, match="not joined"):
        capture(device, forgotten)
