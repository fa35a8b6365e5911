"""Step counts of the paper's cells, evaluation steps, and the learning rate along the schedule."""

import pytest

from sns.optim.nesterov import NesterovOptions
from sns.optim.schedule import learning_rate, learning_rate_sum
from sns.task.length import Length


@pytest.mark.parametrize(
    ("n", "batch", "steps"),
    [(50_000, 64, 234_375), (50_000, 4096, 3_662), (5_000, 64, 23_437), (5_000, 4096, 366)],
)
def test_updates_of_the_papers_cells(n: int, batch: int, steps: int) -> None:
    assert Length(300, n, batch).updates == steps


def test_evaluations_end_each_epoch_within_it_and_close_the_run() -> None:
    assert Length(3, 10, 4).evaluations(1) == [2, 5, 7]  # 2.5, 5 and 7.5 updates
    assert Length(4, 10, 4).evaluations(2) == [5, 10]
    assert Length(2.5, 10, 4).evaluations(1) == [2, 5, 6]  # the last update is always evaluated
    assert Length(3, 10, 25).evaluations(1) == [1]  # batches larger than the set: no empty evaluations
    steps = Length(300, 5_000, 4096).evaluations(1)
    assert len(steps) == 300
    assert steps[-1] == 366
    assert steps == sorted(set(steps))


def test_rate_drops_tenfold_at_one_half_and_three_quarters() -> None:
    config = NesterovOptions(lr=0.1)
    rates = [learning_rate(step, 100, config) for step in range(100)]
    assert rates == [0.1] * 50 + [0.1 * 0.1] * 25 + [0.1 * 0.1**2] * 25
    assert learning_rate_sum(100, 100, config) == pytest.approx(0.1 * (50 + 2.5 + 0.25))
    assert learning_rate_sum(3, 100, config) == pytest.approx(0.3)


def test_a_tiny_interval_costs_no_more_than_an_evaluation_after_every_update(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, updates = [], Length._updates
    monkeypatch.setattr(Length, "_updates", lambda self, epochs: calls.append(epochs) or updates(self, epochs))
    assert Length(3, 10, 4).evaluations(1e-4) == list(range(1, 8))
    assert len(calls) < 20
