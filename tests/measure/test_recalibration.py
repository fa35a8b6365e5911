"""Batch norm's statistics taken anew: those of clean images, and nothing of the run changes."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sns.config.schema import Config
from sns.measure.recalibration import PASS, recalibrated
from sns.model.ghost_norm import GhostBatchNorm2d
from sns.record import store
from sns.train.run import run


def network(ghost: int | None = None) -> nn.Sequential:
    torch.manual_seed(0)
    norms = [GhostBatchNorm2d(4, ghost), nn.BatchNorm2d(4)]
    return nn.Sequential(nn.Conv2d(2, 4, 3), norms[0], nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(4, 4, 1), norms[1])


def inputs(n: int) -> Tensor:
    return torch.randn(n, 2, 6, 6, generator=torch.Generator().manual_seed(1)) + 1


@pytest.mark.parametrize("ghost", [None, 4])
def test_statistics_are_those_of_the_images_without_dropout(ghost: int | None) -> None:
    net, x = network(ghost), inputs(10)
    for _ in range(50):
        net(inputs(8))  # running statistics with dropout
    with recalibrated(net, x, 10):
        hidden = x
        for layer in net:
            if isinstance(layer, nn.BatchNorm2d):
                torch.testing.assert_close(layer.running_mean, hidden.mean((0, 2, 3)))
                torch.testing.assert_close(layer.running_var, hidden.var((0, 2, 3)))
                hidden = nn.functional.batch_norm(hidden, None, None, layer.weight, layer.bias, True, 0.0, layer.eps)
            elif not isinstance(layer, nn.Dropout):
                hidden = layer(hidden)


def test_several_passes_are_averaged() -> None:
    net, x = network(), inputs(2 * PASS)
    first = net[0](x)
    with recalibrated(net, x, 10_000):
        parts = torch.stack([part.mean((0, 2, 3)) for part in first.split(PASS)])
        torch.testing.assert_close(net[1].running_mean, parts.mean(0))


def test_dropout_hides_what_is_learned() -> None:
    """The running variance behind dropout is larger than that of clean images."""
    net, x = network(), inputs(200)
    for _ in range(100):
        net(x)
    inflated = net[5].running_var.clone()
    with recalibrated(net, x, 200):
        assert (net[5].running_var < 0.9 * inflated).all()


def test_the_model_is_as_before() -> None:
    net = network(4)
    net.eval()
    net[3].train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    places = [buffer.data_ptr() for buffer in net.buffers()]
    flags, random = [module.training for module in net.modules()], torch.get_rng_state()
    with recalibrated(net, inputs(5), 5):
        assert not torch.equal(net[5].running_var, before["5.running_var"])
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert places == [buffer.data_ptr() for buffer in net.buffers()]
    assert flags == [module.training for module in net.modules()]
    assert (net[1].ghost, net[1].momentum, net[5].momentum) == (4, 0.1, 0.1)
    assert torch.equal(random, torch.get_rng_state())


def test_no_images_are_refused() -> None:
    with pytest.raises(ValueError, match="no images"), recalibrated(network(), inputs(0), 5):
        pass


def test_a_run_records_it_and_trains_as_without(tiny: Callable[..., Config]) -> None:
    dropout = "model.dropout=[[0.5],[0.5],[0.5]]"
    with_it = run(tiny(dropout, "train.epochs=4"))
    record = store.read(tiny(dropout, "train.epochs=4").directory)
    column = record.history["recalibrated_test_accuracy"]
    assert ((column >= 0) & (column <= 1)).all()
    assert not column.equals(record.history["test_accuracy"])
    last = with_it.measured["recalibrated"]["test"]
    assert last["accuracy"] == pytest.approx(column.iloc[-1])
    assert set(with_it.measured["recalibrated"]) == {"train", "test"}
    without = run(tiny(dropout, "train.epochs=4", "measure.recalibration_samples=null"))
    assert "recalibrated" not in without.measured
    same = [name for name in with_it.final if not name.endswith("seconds") and name != "recalibrated_test_accuracy"]
    assert [with_it.final[name] for name in same] == [without.final[name] for name in same]
    assert without.final["recalibrated_test_accuracy"] == without.final["test_accuracy"]
    assert with_it.run_id != without.run_id


def test_a_network_without_batch_norm_is_left_alone() -> None:
    net, x = nn.Sequential(nn.Flatten(), nn.Linear(72, 3), nn.Dropout(0.5)).eval(), inputs(4)
    plain = net(x)
    with recalibrated(net, x, 4):
        assert torch.equal(net(x), plain)
