"""Statistics against hand computation and scipy; the gap at alpha on hand-made histories."""

import math

import numpy as np
import pytest
from scipy import stats as reference

from sns.analysis.stats import Correlation, combine_correlations, gap_at_alpha, paired, spearman, summarise


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


def test_summary_by_hand() -> None:
    summary = summarise([1.0, 2.0, 6.0, None, math.nan])
    assert (summary.mean, summary.n) == (3.0, 3)
    assert summary.sd == pytest.approx(math.sqrt(7), rel=1e-15)  # (4 + 1 + 9) / 2
    low, high = reference.t.interval(0.95, 2, loc=3.0, scale=math.sqrt(7 / 3))
    assert (summary.low, summary.high) == (pytest.approx(low), pytest.approx(high))


def test_summary_of_one_and_of_none() -> None:
    one, none = summarise([0.0]), summarise([None])
    assert (one.mean, one.sd, one.n, one.low) == (0.0, None, 1, None)
    assert (none.mean, none.n) == (None, 0)


def test_paired_uses_common_seeds_only() -> None:
    summary = paired({0: 0.5, 1: 0.75, 2: 9.0}, {0: 0.25, 1: 0.25, 3: -9.0})
    assert (summary.mean, summary.n) == (0.375, 2)


def test_spearman_with_ties_equals_scipy() -> None:
    random = np.random.default_rng(0)
    x, y = random.integers(0, 6, 40), random.integers(0, 6, 40)
    found = spearman(x.tolist(), y.tolist())
    assert found.rho == pytest.approx(float(reference.spearmanr(x, y).statistic), abs=1e-12)
    assert found.n == 40


def test_spearman_interval_by_hand() -> None:
    found = spearman([1, 2, 3, 4, 5], [2, 1, 4, 3, 5])  # rho = 1 - 6 * 4 / (5 * 24)
    assert found.rho == pytest.approx(0.8)
    half = 1.959963984540054 * math.sqrt((1 + 0.32) / 2)
    assert found.low == pytest.approx(math.tanh(math.atanh(0.8) - half))
    assert found.high == pytest.approx(math.tanh(math.atanh(0.8) + half))


def test_spearman_without_an_answer() -> None:
    assert spearman([1, 2, 3], [1, 2, 3]) == Correlation(None, None, None, 3)
    assert spearman([1, 1, 1, 1, 1], [1, 2, 3, 4, 5]).rho is None
    assert spearman([1, 2, 3, 4, math.nan], [1, 2, 3, 4, 5]).n == 4


def test_correlations_over_seeds() -> None:
    single = Correlation(0.5, 0.1, 0.8, 30)
    assert combine_correlations([single, Correlation(None, None, None, 2)]) == Correlation(0.5, 0.1, 0.8, 1)
    both = combine_correlations([single, Correlation(-0.5, -0.8, -0.1, 30)])
    assert (both.rho, both.n) == (pytest.approx(0.0, abs=1e-12), 2)
    assert both.low == pytest.approx(-math.tanh(reference.t.ppf(0.975, 1) * math.atanh(0.5)))
    assert combine_correlations([]).rho is None
