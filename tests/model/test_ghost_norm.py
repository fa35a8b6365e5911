"""Ghost batch norm against torch's own batch norm on each part."""

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from sns.model.ghost_norm import EPS, MOMENTUM, GhostBatchNorm2d, frozen_running_statistics


def pair(ghost: int | None) -> tuple[GhostBatchNorm2d, nn.BatchNorm2d]:
    ours, theirs = GhostBatchNorm2d(5, ghost), nn.BatchNorm2d(5, eps=EPS, momentum=MOMENTUM)
    with torch.no_grad():
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            p.copy_(torch.randn(5))
            q.copy_(p)
    return ours, theirs


@pytest.mark.parametrize("ghost", [4, 12, None, 50])
def test_equals_batch_norm_of_each_part(ghost: int | None) -> None:
    ours, theirs = pair(ghost)
    x = torch.randn(12, 5, 3, 3) * 3 + 1
    parts = x.split(min(ghost or 12, 12))
    assert_close(ours(x), torch.cat([theirs(part) for part in parts]))
    assert_close(ours.running_mean, theirs.running_mean)
    assert_close(ours.running_var, theirs.running_var)
    assert_close(ours.eval()(x), theirs.eval()(x))


def test_statistics_are_of_the_part_not_of_the_batch() -> None:
    ours, theirs = pair(4)
    x = torch.randn(12, 5, 3, 3)
    assert not torch.allclose(ours(x), theirs(x))


def test_one_pass_and_several_leave_the_same_state() -> None:
    whole, _ = pair(2)
    parts = copy.deepcopy(whole)
    x = torch.randn(8, 5)
    assert_close(whole(x), torch.cat([parts(part) for part in x.split(4)]), rtol=0, atol=0)
    assert torch.equal(whole.running_var, parts.running_var)


def test_a_remainder_is_refused() -> None:
    with pytest.raises(ValueError, match="not a multiple of ghost=4"):
        GhostBatchNorm2d(5, 4)(torch.randn(10, 5, 3, 3))


def test_frozen_normalises_with_the_batch_and_moves_nothing() -> None:
    ours, _ = pair(None)
    x = torch.randn(12, 5, 3, 3)
    expected, before = copy.deepcopy(ours)(x), copy.deepcopy(ours.state_dict())
    with frozen_running_statistics(nn.Sequential(ours)):
        assert_close(ours(x), expected)
    assert all(torch.equal(before[k], v) for k, v in ours.state_dict().items())
    ours(x)
    assert not torch.equal(before["running_mean"], ours.running_mean)
