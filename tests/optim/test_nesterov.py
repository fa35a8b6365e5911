"""Nesterov SGD against its recurrence and against torch.optim.SGD."""

import pytest
import torch
from torch import nn

from sns.optim.nesterov import NesterovOptions, NesterovSGD

GPU = pytest.param("cuda", marks=pytest.mark.gpu)


def test_update_is_nesterovs() -> None:
    """Against the written-out recurrence b <- m b + g, w <- w - lr (g + m b)."""
    w = nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = NesterovSGD([w], NesterovOptions(lr=0.1, momentum=0.9))
    optimizer.set_rate(0.1)
    expected, buffer = w.detach().clone(), torch.zeros(2)
    for step in range(4):
        g = torch.tensor([0.5 + step, -1.0])
        w.grad = g.clone()
        optimizer.step()
        buffer = 0.9 * buffer + g
        expected = expected - 0.1 * (g + 0.9 * buffer)
        torch.testing.assert_close(w.detach(), expected)


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.9, True), (0.9, False), (0.0, False)])
def test_equals_torch(momentum: float, nesterov: bool, device: str) -> None:
    """Bit by bit on the CPU, with a change of the learning rate."""
    generator = torch.Generator().manual_seed(0)
    mine = [nn.Parameter(torch.randn(shape, generator=generator).to(device)) for shape in [(3, 4), (5,), (2, 3, 3, 3)]]
    theirs = [nn.Parameter(p.detach().clone()) for p in mine]
    ours = NesterovSGD(mine, NesterovOptions(lr=0.1, momentum=momentum, nesterov=nesterov))
    reference = torch.optim.SGD(theirs, lr=0.1, momentum=momentum, nesterov=nesterov, fused=True)
    for rate in (0.1, 0.1, 0.01):
        ours.set_rate(rate)
        reference.param_groups[0]["lr"] = rate
        for a, b in zip(mine, theirs, strict=True):
            a.grad = torch.randn(a.shape, generator=generator).to(device)
            b.grad = a.grad.clone()
        ours.step()
        reference.step()
    tolerance = {"rtol": 0.0, "atol": 0.0} if device == "cpu" else {"rtol": 1e-6, "atol": 1e-7}
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a.detach(), b.detach(), **tolerance)


def test_a_parameter_without_gradient_stays() -> None:
    moved, left = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = NesterovSGD([moved, left], NesterovOptions(lr=0.1))
    optimizer.set_rate(0.1)
    moved.grad = torch.ones(2)
    optimizer.step()
    assert torch.equal(left.detach(), torch.ones(2))
    assert not torch.equal(moved.detach(), torch.ones(2))
    optimizer.zero_grad()
    assert moved.grad is None


def test_state_continues_and_foreign_state_is_refused() -> None:
    w = nn.Parameter(torch.ones(2))
    optimizer = NesterovSGD([w], NesterovOptions(lr=0.1))
    w.grad = torch.ones(2)
    optimizer.step()
    fresh = NesterovSGD([w], NesterovOptions(lr=0.1))
    fresh.load_state_dict(optimizer.state_dict())
    assert torch.equal(fresh.buffers[0], optimizer.buffers[0])
    assert fresh.buffers[0].abs().sum() > 0
    with pytest.raises(ValueError, match="does not fit"):
        fresh.load_state_dict({"momentum": [torch.zeros(3)]})
    with pytest.raises(ValueError, match="zip"):
        fresh.load_state_dict({"momentum": []})
