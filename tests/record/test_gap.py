"""The gap at alpha on histories written by hand."""

import math

import pytest

from sns.record.gap import gap_at_alpha


def rows(*pairs: tuple[float, float]) -> list[dict[str, float]]:
    return [{"epoch": i + 1.0, "train_accuracy": train, "test_accuracy": test} for i, (train, test) in enumerate(pairs)]


def test_gap_at_alpha_is_the_smallest_over_rows_above_alpha() -> None:
    history = rows((0.5, 0.49), (0.75, 0.625), (0.9375, 0.6875), (0.875, 0.75))
    assert gap_at_alpha(history, 0.6) == (0.125, 2.0)  # epoch 1 has a smaller gap, but lies below alpha
    assert gap_at_alpha(history, 0.65) == (0.125, 4.0)
    assert gap_at_alpha(history, 0.0) == (pytest.approx(0.01), 1.0)


def test_gap_at_alpha_never_exceeded() -> None:
    history = rows((0.9, 0.6), (1.0, 0.7))
    assert gap_at_alpha(history, 0.7) is None  # reached, not exceeded
    assert gap_at_alpha(history, None) is None
    assert gap_at_alpha([], 0.1) is None


def test_gap_at_alpha_may_be_negative_takes_the_first_of_ties_and_skips_nan() -> None:
    assert gap_at_alpha(rows((0.5, 0.75), (1.0, 0.75)), 0.7) == (-0.25, 1.0)
    assert gap_at_alpha(rows((1.0, 0.75), (1.0, 0.75)), 0.7) == (0.25, 1.0)
    assert gap_at_alpha(rows((math.nan, 0.9), (0.9, math.nan), (1.0, 0.75)), 0.7) == (0.25, 3.0)
    assert gap_at_alpha(rows((0.5, 0.25)), 0.0) == (0.25, 1.0)  # alpha = 0 is a threshold like any other
