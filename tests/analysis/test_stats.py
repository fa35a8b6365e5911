"""Statistics against hand computation and scipy."""

import math

import numpy as np
import pytest
from scipy import stats as reference

from sns.analysis.stats import Correlation, combine_correlations, holm, paired, spearman, summarise, t_test


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
    correlation = spearman(x.tolist(), y.tolist())
    assert correlation.rho == pytest.approx(float(reference.spearmanr(x, y).statistic), abs=0)
    assert correlation.n == 40


def test_spearman_interval_by_hand() -> None:
    correlation = spearman([1, 2, 3, 4, 5], [2, 1, 4, 3, 5])  # rho = 1 - 6 * 4 / (5 * 24)
    assert correlation.rho == pytest.approx(0.8)
    half = 1.959963984540054 * math.sqrt((1 + 0.32) / 2)
    assert correlation.low == pytest.approx(math.tanh(math.atanh(0.8) - half))
    assert correlation.high == pytest.approx(math.tanh(math.atanh(0.8) + half))


def test_spearman_without_an_answer() -> None:
    assert spearman([1, 2, 3], [1, 2, 3]) == Correlation(None, None, None, 3)
    assert spearman([1, 1, 1, 1, 1], [1, 2, 3, 4, 5]).rho is None
    assert spearman([1, 2, 3, 4, math.nan], [1, 2, 3, 4, 5]).n == 4


def test_correlations_over_seeds() -> None:
    single = Correlation(0.5, 0.1, 0.8, 30)
    assert combine_correlations([single, Correlation(None, None, None, 2)]) == Correlation(0.5, 0.1, 0.8, 1)
    both = combine_correlations([single, Correlation(-0.5, -0.8, -0.1, 30)])
    assert (both.rho, both.n) == (pytest.approx(0.0, abs=0), 2)
    assert both.low == pytest.approx(-math.tanh(reference.t.ppf(0.975, 1) * math.atanh(0.5)))
    assert combine_correlations([]).rho is None


def test_holm_by_hand() -> None:
    assert holm([0.01, None, 0.04, 0.03]) == pytest.approx([0.03, None, 0.06, 0.06])
    assert holm([None]) == [None]


def test_holm_is_that_of_statsmodels_to_the_bit() -> None:
    from statsmodels.stats.multitest import multipletests

    random = np.random.default_rng(0)
    for count in (1, 2, 7, 40):
        values = [*map(float, np.round(random.uniform(0, 0.3, count), 2)), 1.0, 1e-9]  # with ties
        assert holm(values) == list(multipletests(values, method="holm")[1])


def test_identical_values_decide_and_zeros_do_not() -> None:
    assert t_test([0.5, 0.5, 0.5]) == (0, 1)
    assert t_test([0.0, 0.0, 0.0]) == (1, 1)
