"""Decision rules: inequalities between cells, tested over seeds, and what follows for a unit and
for a claim.

The rules are written in results/paper/claims.yaml; its head says how to read them and how tests are
corrected.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from scipy import stats as scipy_stats

from sns.analysis.stats import summarise

TERM = re.compile(r"\s*([+-]?)\s*(?:(\d+(?:\.\d+)?)|([a-z]\w*(?:\.[a-z]+)?))")
HOLDS, FAILS, OPEN = "holds", "fails", "open"


@dataclass(frozen=True)
class Inequality:
    """An inequality as a linear form that is positive where it holds."""

    text: str
    terms: tuple[tuple[int, str], ...]  # (+1 or -1, name of a cell)
    constant: float

    def margin(self, lookup: Callable[[str], Mapping[int, float]]) -> dict[int, float]:
        """{seed: by how much the inequality holds} over the seeds that every named cell has."""
        values = [(sign, lookup(name)) for sign, name in self.terms]
        seeds = sorted(set.intersection(*(set(column) for _, column in values)))
        # Printed decimals such as .671 - .639 must not differ from one another in the last bit.
        return {seed: round(sum(sign * v[seed] for sign, v in values) + self.constant, 12) for seed in seeds}


def parse(text: str) -> Inequality:
    """The inequality written as `a - b > c + 0.1`; ValueError where it is written otherwise."""
    sides = re.split(r"[<>]", text)
    if len(sides) != 2:
        raise ValueError(f"{text!r} must hold exactly one of < and >")
    larger = 0 if ">" in text else 1
    terms: list[tuple[int, str]] = []
    constant = 0.0
    for number, side in enumerate(sides):
        turn = 1 if number == larger else -1
        position = 0
        while position < len(side.rstrip()):
            found = TERM.match(side, position)
            if found is None or (position > 0 and found[1] == ""):
                raise ValueError(f"{text!r} cannot be read at {side[position:]!r}")
            sign = -turn if found[1] == "-" else turn
            if found[2] is None:
                terms.append((sign, found[3]))
            else:
                constant += sign * float(found[2])
            position = found.end()
    if not terms:
        raise ValueError(f"{text!r} names no cell")
    return Inequality(text, tuple(terms), constant)


@dataclass(frozen=True)
class Comparison:
    """One inequality in one unit. `margin` > 0 says that it holds on average; probabilities are
    one-sided."""

    unit: str
    branch: int  # which of the rule's measures
    measure: str
    inequality: str
    margin: float | None
    low: float | None
    high: float | None
    n: int
    p_holds: float | None  # that such a mean arises although the inequality does not hold
    p_fails: float | None  # that it arises although the inequality does not fail
    missing: tuple[str, ...]


def t_test(margin: Mapping[int, float], minimum: int, confidence: float) -> dict[str, float | int | None]:
    """The t test of margins by seed against 0: margin, low, high, n, p_holds, p_fails (None under
    `minimum` seeds)."""
    summary = summarise(margin.values(), confidence)
    found: dict[str, float | int | None] = {
        "margin": summary.mean,
        "low": summary.low,
        "high": summary.high,
        "n": summary.n,
        "p_holds": None,
        "p_fails": None,
    }
    if summary.n < minimum or summary.mean is None or summary.sd is None:
        return found
    if summary.sd == 0:  # seeds agree to the last digit
        found["p_holds"], found["p_fails"] = float(summary.mean <= 0), float(summary.mean >= 0)
        return found
    t = summary.mean / (summary.sd / math.sqrt(summary.n))
    found["p_holds"] = float(scipy_stats.t.sf(t, summary.n - 1))
    found["p_fails"] = float(scipy_stats.t.cdf(t, summary.n - 1))
    return found


def holm(probabilities: Sequence[float | None]) -> list[float | None]:
    """Holm's adjusted p-values; None stays None and does not count."""
    order = sorted((p, i) for i, p in enumerate(probabilities) if p is not None)
    adjusted: list[float | None] = [None] * len(probabilities)
    highest = 0.0
    for rank, (p, index) in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p))
        adjusted[index] = highest
    return adjusted


def judge(tests: Sequence[Comparison], confidence: float, one_of_several: bool) -> list[str]:
    """holds | fails | open for each test of a claim. A failure is Holm-adjusted over the claim's
    tests, because one would refute it; so is a success where `one_of_several` may decide."""
    level = (1 - confidence) / 2
    succeed = [test.p_holds for test in tests]
    if one_of_several:
        succeed = holm(succeed)
    fail = holm([test.p_fails for test in tests])
    states = []
    for p_holds, p_fails in zip(succeed, fail, strict=True):
        state = HOLDS if p_holds is not None and p_holds < level else OPEN
        states.append(FAILS if p_fails is not None and p_fails < level else state)
    return states


def conjunction(states: Sequence[str]) -> str:
    """All must hold; one that fails is enough to fail."""
    if FAILS in states:
        return FAILS
    return HOLDS if states and all(state == HOLDS for state in states) else OPEN


def disjunction(states: Sequence[str]) -> str:
    """One that holds is enough; all must fail to fail."""
    if HOLDS in states:
        return HOLDS
    return FAILS if states and all(state == FAILS for state in states) else OPEN


def majority(states: Sequence[str]) -> str:
    """More than half hold; or half or more fail."""
    if 2 * states.count(HOLDS) > len(states):
        return HOLDS
    return FAILS if 2 * states.count(FAILS) >= len(states) > 0 else OPEN
