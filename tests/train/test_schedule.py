"""Step counts of the paper's cells, evaluation steps, and the learning rate of every group along the schedule."""

import pytest
import torch
from torch import nn

from sns.config import OptimConfig
from sns.train.optim import build, set_learning_rate
from sns.train.schedule import evaluation_steps, learning_rate, learning_rate_sum, total_steps


@pytest.mark.parametrize(
    ("n", "batch", "steps"),
    [(50_000, 64, 234_375), (50_000, 4096, 3_662), (5_000, 64, 23_437), (5_000, 4096, 366)],
)
def test_updates_of_the_papers_cells(n: int, batch: int, steps: int) -> None:
    assert total_steps(300, n, batch) == steps


def test_evaluations_end_each_epoch_within_it_and_close_the_run() -> None:
    assert evaluation_steps(3, 1, 10, 4) == [2, 5, 7]  # 2.5, 5 and 7.5 updates
    assert evaluation_steps(4, 2, 10, 4) == [5, 10]
    assert evaluation_steps(2.5, 1, 10, 4) == [2, 5, 6]  # the last update is always evaluated
    assert evaluation_steps(3, 1, 10, 25) == [1]  # batches larger than the set: no empty evaluations
    steps = evaluation_steps(300, 1, 5_000, 4096)
    assert len(steps) == 300
    assert steps[-1] == 366
    assert steps == sorted(set(steps))


def test_rate_drops_tenfold_at_one_half_and_three_quarters() -> None:
    config = OptimConfig(lr=0.1)
    rates = [learning_rate(step, 100, config) for step in range(100)]
    assert rates == [0.1] * 50 + [0.1 * 0.1] * 25 + [0.1 * 0.1**2] * 25
    assert learning_rate_sum(100, 100, config) == pytest.approx(0.1 * (50 + 2.5 + 0.25))
    assert learning_rate_sum(3, 100, config) == pytest.approx(0.3)


def test_every_parameter_group_follows() -> None:
    model = nn.Linear(2, 2)
    optimizer = build(model, OptimConfig(lr=1.0))
    optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(3))]})
    for step in (0, 4, 5, 9):
        rate = set_learning_rate(optimizer, step, 10, OptimConfig(lr=1.0))
        assert [group["lr"] for group in optimizer.param_groups] == [rate, rate]
    assert rate == pytest.approx(0.01)


def test_update_is_nesterovs() -> None:
    """Against the recurrence written out: b <- m b + g, w <- w - lr (g + m b)."""
    w = nn.Parameter(torch.tensor([1.0, -2.0]))
    model = nn.Module()
    model.w = w
    optimizer = build(model, OptimConfig(lr=0.1, momentum=0.9))
    expected, buffer = w.detach().clone(), torch.zeros(2)
    for step in range(4):
        g = torch.tensor([0.5 + step, -1.0])
        w.grad = g.clone()
        optimizer.step()
        buffer = 0.9 * buffer + g
        expected = expected - 0.1 * (g + 0.9 * buffer)
        torch.testing.assert_close(w.detach(), expected)
