"""DenseNet with each channel's statistics taken once, against the usual form, in float64."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from sns.common.errors import ConfigError
from sns.config.schema import identity
from sns.measure.recalibration import recalibrated
from sns.model import build, ghost_norm
from sns.model.densenet import DenseNetConfig
from sns.model.ghost_norm import frozen_running_statistics


def pair(ghost: int | None = None, dropout: float = 0.3) -> tuple[nn.Module, nn.Module]:
    """The usual form and the other one, with the same weights."""
    nets = []
    for statistics in ("each", "once"):
        options = DenseNetConfig(depth=10, growth=3, first=4, dropout=dropout, statistics=statistics)
        net = build(options, 2, 8, 5, ghost, torch.Generator().manual_seed(0)).double()
        torch.manual_seed(1)
        for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
        nets.append(net)
    return nets[0], nets[1]


def images(n: int = 12) -> Tensor:
    return torch.randn(n, 2, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) + 1


def loss(net: Any, x: Tensor) -> Tensor:
    torch.manual_seed(3)  # the same dropout masks
    return F.cross_entropy(net(x), torch.arange(len(x)) % 5)


def assert_alike(usual: nn.Module, once: nn.Module) -> None:
    """Equal gradients and running statistics under equal names."""
    theirs = usual.state_dict()
    assert once.state_dict().keys() == theirs.keys()
    assert_close(dict(once.state_dict()), dict(theirs))
    assert_close([p.grad for p in once.parameters()], [p.grad for p in usual.parameters()])


@pytest.mark.parametrize("ghost", [None, 4])
def test_training_is_the_same(ghost: int | None) -> None:
    usual, once = pair(ghost)
    for _ in range(2):
        x, y = (images().requires_grad_() for _ in range(2))
        losses = loss(usual, x), loss(once, y)
        assert_close(*losses)
        for value in losses:
            value.backward()
        assert_close(x.grad, y.grad)
        assert_alike(usual, once)


def test_each_channel_is_normalised_once(monkeypatch: pytest.MonkeyPatch) -> None:
    channels, original = [], F.batch_norm

    def count(x: Tensor, *args: Any, training: bool = False, **kwargs: Any) -> Tensor:
        channels.extend([x.shape[1]] * training)
        return original(x, *args, training=training, **kwargs)

    monkeypatch.setattr(ghost_norm.F, "batch_norm", count)
    loss(pair()[1], images())
    assert channels == [4, 3, 3, 10, 3, 3, 16, 3, 3]  # of each convolution


def test_second_derivatives_are_the_same() -> None:
    usual, once = pair()
    for net in (usual, once):
        x = images().requires_grad_()
        (slope,) = torch.autograd.grad(loss(net, x), x, create_graph=True)
        slope.square().sum().backward()
    assert_alike(usual, once)


def test_frozen_statistics_and_passes_without_dropout_are_the_same() -> None:
    usual, once = pair()
    x, before = images(), copy.deepcopy(usual.state_dict())
    for net in (usual, once):
        with frozen_running_statistics(net):
            loss(net, x).backward()
    assert_alike(usual, once)
    assert all(torch.equal(before[name], value) for name, value in once.state_dict().items())
    with recalibrated(usual, x, 12), recalibrated(once, x, 12):
        assert_alike(usual, once)
        assert not torch.equal(before["features.2.norm.running_var"], once.state_dict()["features.2.norm.running_var"])


def test_evaluation_uses_the_running_statistics() -> None:
    usual, once = pair()
    assert_close(usual.eval()(images()), once.eval()(images()))
    usual, once = (net.train() for net in (usual, once))
    for net in (usual, once):
        net.features[3].norm.eval()  # one layer alone
    assert_close(loss(usual, images()), loss(once, images()))


def test_it_compiles_as_one_graph() -> None:
    usual, once = pair(4)
    for called in (usual, torch.compile(once, backend="eager", fullgraph=True)):
        loss(called, images()).backward()
    assert_alike(usual, once)


def test_half_precision_stays_half() -> None:
    """The scaled channels are bf16 under autocast, as those of the usual form are."""
    _, once = pair()
    with torch.autocast("cpu", torch.bfloat16):
        x = once.float().features[0](images().float())
        norm = once.features[1].norm
        known = norm.standardize(x)
        assert (known.x.dtype, known.means.dtype, norm.rescale(known).dtype) == (x.dtype, torch.float32, torch.bfloat16)


def test_the_usual_form_is_the_default_and_keeps_its_identity() -> None:
    assert DenseNetConfig().statistics == "each"
    assert "statistics" not in identity(DenseNetConfig())
    with pytest.raises(ConfigError, match="choose each or once"):
        DenseNetConfig(statistics="twice")
