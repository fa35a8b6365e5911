"""The statistics of tables, figures and claims: means, deviations, intervals, rank correlations.

Nothing here needs scipy.stats, which takes longer to import than all the rest.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special  # a fraction of the import time of scipy.stats


@dataclass(frozen=True)
class Summary:
    """A mean over `n` values, None where n = 0; its standard deviation `sd` (n - 1 in the
    denominator) and t interval from `low` to `high`, None where n < 2."""

    mean: float | None
    sd: float | None
    n: int
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Correlation:
    """Spearman's rho of `n` points with its interval; None where it cannot be computed."""

    rho: float | None
    low: float | None
    high: float | None
    n: int


def summarise(values: Iterable[float | None], level: float = 0.95) -> Summary:
    """Mean, standard deviation and two-sided t interval of the `values` that are finite."""
    finite = np.array([value for value in values if value is not None and math.isfinite(value)], dtype=float)
    n = len(finite)
    if n == 0:
        return Summary(None, None, 0, None, None)
    mean = float(finite.mean())
    if n == 1:
        return Summary(mean, None, 1, None, None)
    sd = float(finite.std(ddof=1))
    half = float(special.stdtrit(n - 1, (1 + level) / 2)) * sd / math.sqrt(n)
    return Summary(mean, sd, n, mean - half, mean + half)


def prediction_half_width(summary: Summary, level: float = 0.95) -> float | None:
    """Half the width of the t prediction interval, around the mean of n values, for one further
    value; None where n < 2."""
    if summary.sd is None:
        return None
    n = summary.n
    return float(special.stdtrit(n - 1, (1 + level) / 2)) * summary.sd * math.sqrt(1 + 1 / n)


def paired(first: Mapping[Any, float], second: Mapping[Any, float], level: float = 0.95) -> Summary:
    """Summary of first - second over the keys, such as seeds, that both have."""
    return summarise([first[key] - second[key] for key in sorted(first.keys() & second.keys())], level)


def spearman(x: Sequence[float], y: Sequence[float], level: float = 0.95) -> Correlation:
    """Spearman's rho over the finite pairs, with the interval of Bonett and Wright (2000) on
    Fisher's scale.

    The interval assumes independent pairs; it is too narrow for the epochs of one run. None where
    fewer than 4 pairs are finite or one side is constant.
    """
    a, b = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    finite = np.isfinite(a) & np.isfinite(b)
    a, b = a[finite], b[finite]
    n = len(a)
    if n < 4 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return Correlation(None, None, None, n)
    # b first: the matrix is not symmetric in the last bit, and committed results have this order.
    rho = float(np.clip(np.corrcoef([_ranks(b), _ranks(a)])[1, 0], -1, 1))
    half = float(special.ndtri((1 + level) / 2)) * math.sqrt((1 + rho**2 / 2) / (n - 3))
    centre = _fisher(rho)
    return Correlation(rho, math.tanh(centre - half), math.tanh(centre + half), n)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1; equal values share the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    means: np.ndarray = np.cumsum(counts) - (counts - 1) / 2
    return means[places]


def combine_correlations(runs: Sequence[Correlation], level: float = 0.95) -> Correlation:
    """One rho over several runs: the mean on Fisher's scale with a t interval over runs, `n` =
    runs.

    A single run keeps its own rho and interval; `spearman` says what that interval assumes.
    """
    computed = [run for run in runs if run.rho is not None]
    if len(computed) == 1:
        return Correlation(computed[0].rho, computed[0].low, computed[0].high, 1)
    scaled = summarise([_fisher(run.rho) for run in computed if run.rho is not None], level)
    if scaled.mean is None or scaled.low is None or scaled.high is None:
        return Correlation(None, None, None, 0)
    return Correlation(math.tanh(scaled.mean), math.tanh(scaled.low), math.tanh(scaled.high), scaled.n)


def t_test(values: Sequence[float]) -> tuple[float, float]:
    """One-sided p-values of Student's t test of the mean of at least two `values` against 0: that
    it is greater, that it is less.

    scipy's ttest_1samp gives the same up to the last bits, and NaN where all values are equal: here
    a mean that is not 0 then is certain.
    """
    summary = summarise(values)
    assert summary.mean is not None
    assert summary.sd is not None
    if summary.sd == 0:
        return float(summary.mean <= 0), float(summary.mean >= 0)
    t = summary.mean / (summary.sd / math.sqrt(summary.n))
    return float(special.stdtr(summary.n - 1, -t)), float(special.stdtr(summary.n - 1, t))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's adjusted p-values (1979); None stays None and does not count as a test.

    The numbers are those of statsmodels' multipletests, which collects garbage at every call: that
    took nine tenths of judging the claims.
    """
    tested = [index for index, p in enumerate(p_values) if p is not None]
    values = np.array([p_values[index] for index in tested], dtype=float)
    order = np.argsort(values, kind="stable")
    steps = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = list(p_values)
    for place, value in zip(order, np.minimum(steps, 1.0), strict=True):
        adjusted[tested[place]] = float(value)
    return adjusted


def _fisher(rho: float) -> float:
    return math.atanh(max(-1 + 1e-9, min(1 - 1e-9, rho)))  # a perfect correlation would be infinite
