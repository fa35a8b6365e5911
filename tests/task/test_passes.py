"""The bytes that a pass needs, and the pass sizes that follow."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from sns.common.seed import generator
from sns.config.schema import BatchConfig, Config
from sns.model import build
from sns.model.densenet import DenseNetConfig
from sns.model.vgg import VGGConfig
from sns.task import passes
from sns.train.run import run
from sns.train.session import start

CPU = torch.device("cpu")


def test_counted_bytes_of_a_known_chain() -> None:
    """Linear, ReLU, Linear: the input, the ReLU's output and the log-softmax are saved."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 8, bias=False), nn.ReLU(), nn.Linear(8, 3, bias=False))
    floats = 6 + 8 + 3
    assert passes.saved_bytes(model, 6, 1, 3) == floats * 4 + 8  # and the label
    assert passes.saved_bytes(model, 6, 1, 3, "bf16") == pytest.approx(passes.BF16 * (floats * 4 + 8))
    assert all(p.device == CPU for p in model.parameters())
    convolutions = (nn.Conv2d(1, 3, 1, bias=False), nn.Conv2d(3, 2, 1, bias=False))
    alike = nn.Sequential(*convolutions, nn.Flatten())  # the second's weight has as many rows as images are counted
    assert passes.saved_bytes(alike, 1, 1, 2) == (1 + 3 + 2) * 4 + 8


def test_counting_changes_no_state() -> None:
    model = build(VGGConfig(), 3, 32, 10, None, generator(0, "init"))
    before, random = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    passes.saved_bytes(model, 3, 32, 10)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())


def test_count_is_near_what_a_real_pass_allocates() -> None:
    """DenseNet-40, whose whole batch of 4,096 is too much for a card of 80 GB."""
    model = build(DenseNetConfig(), 3, 32, 100, None, generator(0, "init"))
    per_image = passes.saved_bytes(model, 3, 32, 100)
    saved = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, nn.Parameter):
            saved[tensor.untyped_storage().data_ptr()] = (tensor, tensor.untyped_storage().nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.train()(torch.randn(8, 3, 32, 32)).sum()
    real = sum(size for tensor, size in saved.values()) / 8
    assert per_image == pytest.approx(real, rel=0.1)
    assert 4096 * per_image > 80e9 > 2048 * per_image


@pytest.mark.parametrize(
    ("free", "size", "warned"),
    [(None, 1024, False), (1100.0, 1024, False), (700.0, 512, True), (340.0, 256, True), (10.0, 128, True)],
)
def test_largest_multiple_of_the_ghost_size_that_fits(
    monkeypatch: pytest.MonkeyPatch, free: float | None, size: int, warned: bool
) -> None:
    """1,024 images of 0.8 bytes on a device with `free` bytes, of which four fifths are used."""
    monkeypatch.setattr(passes, "room_of_a_run", lambda device: free)
    chosen, reason = passes.choose(BatchConfig("large", 1024, ghost=128), 0.8, CPU)
    assert chosen == size
    assert (reason is not None) == warned
    if reason is not None:
        assert f"{1024 // size} passes of {size} images" in reason


def test_what_is_asked_for_is_an_upper_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "room_of_a_run", lambda device: 1e9)
    assert passes.choose(BatchConfig("large", 1024, ghost=128, micro=256), 1.0, CPU) == (256, None)
    monkeypatch.setattr(passes, "room_of_a_run", lambda device: 200.0)
    size, reason = passes.choose(BatchConfig("large", 1024, ghost=128, micro=512), 1.0, CPU)
    assert size == 128
    assert reason is not None
    assert "a pass of 512 images" in reason


def test_a_batch_without_groups_is_tried_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "room_of_a_run", lambda device: 1.0)
    assert passes.choose(BatchConfig("small", 64), 1.0, CPU) == (64, None)
    assert passes.choose(BatchConfig("small", 64, ghost=128), 1.0, CPU) == (64, None)


def test_measuring_passes_are_halved_until_they_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "room_of_a_run", lambda device: 400.0)
    assert passes.choose_measuring(300, 1.0, CPU) == (300, None)
    assert passes.choose_measuring(600, 1.0, CPU)[0] == 300
    size, reason = passes.choose_measuring(1000, 1.0, CPU)
    assert size == 250
    assert reason is not None
    assert "measuring 1000 images at once" in reason
    monkeypatch.setattr(passes, "room_of_a_run", lambda device: None)
    assert passes.choose_measuring(1000, 1e9, CPU) == (1000, None)
    assert passes.choose_measuring(None, 5e6, CPU) == (200, None)
    assert passes.choose_measuring(None, 1.0, CPU) == (passes.MOST, None)
    assert passes.choose_measuring(None, 1e12, CPU) == (1, None)


def test_too_little_device_memory_is_reported_and_recorded(
    tiny: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The batch is split into two passes, with a printed reason and the size in the record."""
    options = ("batch=large", "batch.size=32", "batch.ghost=8", "train.progress=lines", "train.epochs=1")
    session = start(tiny(*options))
    shape = session.task.dataset.channels, session.task.dataset.image_size, session.task.dataset.classes
    need = 32 * passes.saved_bytes(session.task.model, *shape)
    assert session.task.sizes.train == 32
    monkeypatch.setattr(passes, "room_of_a_run", lambda device: 0.75 * need)
    result = run(tiny(*options))
    assert result.status == "ok"
    assert result.memory["pass_images"] == 16
    assert "2 passes of 16 images an update" in capsys.readouterr().out


def test_a_resumed_run_keeps_its_pass_sizes(tiny: Callable[..., Config]) -> None:
    options = ("batch=large", "batch.size=32", "batch.ghost=8")
    first = start(tiny(*options, "batch.micro=8", "measure.batch_size=10"))
    first.directory.mkdir(parents=True)
    first.save()
    again = start(tiny(*options))
    assert (again.task.sizes.train, again.task.sizes.measure) == (8, 10)
    assert again.notes == []
    first.task.sizes.train = 32
    first.save()
    shorter = start(tiny(*options, "batch.micro=16"))
    assert shorter.task.sizes.train == 16
    assert "32 before" in shorter.notes[0]
