"""Means, deviations, intervals and rank correlations: everything statistical that tables, figures
and claims share."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special  # a fraction of the import time of scipy.stats

from sns.record.gap import gap_at_alpha

__all__ = [
    "Correlation",
    "Summary",
    "combine_correlations",
    "gap_at_alpha",
    "paired",
    "prediction_half_width",
    "spearman",
    "summarise",
]


@dataclass(frozen=True)
class Summary:
    """A mean over runs; `sd` (n - 1 in the denominator) and the t interval are None where n < 2,
    `mean` where n = 0."""

    mean: float | None
    sd: float | None
    n: int
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Correlation:
    """Spearman's rho with its interval, None where it cannot be computed; `n` points."""

    rho: float | None
    low: float | None
    high: float | None
    n: int


def summarise(values: Iterable[float | None], level: float = 0.95) -> Summary:
    """Mean, standard deviation and two-sided t interval of the finite `values`; others are left
    out."""
    kept = np.array([value for value in values if value is not None and math.isfinite(value)], dtype=float)
    n = len(kept)
    if n == 0:
        return Summary(None, None, 0, None, None)
    mean = float(kept.mean())
    if n == 1:
        return Summary(mean, None, 1, None, None)
    sd = float(kept.std(ddof=1))
    half = float(special.stdtrit(n - 1, (1 + level) / 2)) * sd / math.sqrt(n)
    return Summary(mean, sd, n, mean - half, mean + half)


def prediction_half_width(summary: Summary, level: float = 0.95) -> float | None:
    """Half the width of the t interval, around the mean of n values, for one further value; None
    where n < 2."""
    if summary.sd is None:
        return None
    n = summary.n
    return float(special.stdtrit(n - 1, (1 + level) / 2)) * summary.sd * math.sqrt(1 + 1 / n)


def paired(first: Mapping[int, float], second: Mapping[int, float], level: float = 0.95) -> Summary:
    """Summary of first - second over the keys (seeds) that both have."""
    return summarise([first[key] - second[key] for key in sorted(first.keys() & second.keys())], level)


def spearman(x: Sequence[float], y: Sequence[float], level: float = 0.95) -> Correlation:
    """Spearman's rho of the pairs that are finite, with the interval of Bonett and Wright (2000) on
    Fisher's scale.

    The interval takes the pairs as independent: for the epochs of one run it is too narrow. None
    where fewer than 4 pairs are left or one side is constant.
    """
    a, b = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    finite = np.isfinite(a) & np.isfinite(b)
    a, b = a[finite], b[finite]
    n = len(a)
    if n < 4 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return Correlation(None, None, None, n)
    ranks_a, ranks_b = pd.Series(a).rank(), pd.Series(b).rank()
    rho = float(np.clip(np.corrcoef(ranks_a, ranks_b)[0, 1], -1, 1))
    half = float(special.ndtri((1 + level) / 2)) * math.sqrt((1 + rho**2 / 2) / (n - 3))
    centre = _fisher(rho)
    return Correlation(rho, math.tanh(centre - half), math.tanh(centre + half), n)


def combine_correlations(runs: Sequence[Correlation], level: float = 0.95) -> Correlation:
    """One rho over several runs: the mean on Fisher's scale with a t interval over runs, `n` =
    runs.

    A single run keeps its own rho and interval (see `spearman` for what that interval assumes).
    """
    known = [run for run in runs if run.rho is not None]
    if len(known) == 1:
        return Correlation(known[0].rho, known[0].low, known[0].high, 1)
    scaled = summarise([_fisher(run.rho) for run in known if run.rho is not None], level)
    if scaled.mean is None or scaled.low is None or scaled.high is None:
        return Correlation(None, None, None, 0)
    return Correlation(math.tanh(scaled.mean), math.tanh(scaled.low), math.tanh(scaled.high), scaled.n)


def _fisher(rho: float) -> float:
    return math.atanh(max(-1 + 1e-9, min(1 - 1e-9, rho)))  # a perfect correlation would be infinite
