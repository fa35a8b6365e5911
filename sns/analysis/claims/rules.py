"""Decision rules: inequalities between cells, tested over seeds, and what the tests decide about a
unit and about a claim.

results/paper/claims.yaml holds the rules. Its head says how to read them and how the tests are
corrected.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sns.analysis.stats import holm, summarise, t_test

Key = TypeVar("Key", bound=Any)  # what is paired: a seed, or a tuple that ends with one
TERM = re.compile(r"\s*([+-]?)\s*(?:(\d+(?:\.\d+)?)|([a-z]\w*(?:\.[a-z]+)?))")
HOLDS, FAILS, OPEN = "holds", "fails", "open"


@dataclass(frozen=True)
class Inequality:
    """An inequality as a linear form that is positive where it holds."""

    text: str
    terms: tuple[tuple[int, str], ...]  # (+1 or -1, name of a cell)
    constant: float

    def margin(self, lookup: Callable[[str], Mapping[Key, float]]) -> dict[Key, float]:
        """{seed: by how much the inequality holds} over the seeds that every named cell has."""
        values = [(sign, lookup(name)) for sign, name in self.terms]
        keys = sorted(set.intersection(*(set(column) for _, column in values)))
        # Rounded: equal differences of printed decimals, as .671 - .639, differ in the last bit.
        return {key: round(sum(sign * v[key] for sign, v in values) + self.constant, 12) for key in keys}


def parse_inequality(text: str) -> Inequality:
    """The inequality of a text such as `a - b > c + 0.1`; ValueError for any other form."""
    sides = re.split(r"[<>]", text)
    if len(sides) != 2:
        raise ValueError(f"{text!r} must hold exactly one of < and >")
    larger = 0 if ">" in text else 1
    terms: list[tuple[int, str]] = []
    constant = 0.0
    for number, side in enumerate(sides):
        side_sign = 1 if number == larger else -1
        position = 0
        while position < len(side.rstrip()):
            match = TERM.match(side, position)
            if match is None or (position > 0 and match[1] == ""):
                raise ValueError(f"{text!r} cannot be read at {side[position:]!r}")
            sign = -side_sign if match[1] == "-" else side_sign
            if match[2] is None:
                terms.append((sign, match[3]))
            else:
                constant += sign * float(match[2])
            position = match.end()
    if not terms:
        raise ValueError(f"{text!r} names no cell")
    return Inequality(text, tuple(terms), constant)


@dataclass(frozen=True)
class Comparison:
    """One inequality in one unit. `margin` is by how much it holds, a mean over `n` seeds with its
    t interval; the p-values are one-sided, None where there are too few seeds."""

    unit: str
    branch: int  # which of the rule's measures
    measure: str
    inequality: str
    margin: float | None
    low: float | None
    high: float | None
    n: int
    p_holds: float | None  # of such a margin if the inequality did not hold
    p_fails: float | None  # of such a margin if the inequality did not fail
    missing: tuple[str, ...]


def compare(
    place: tuple[str, int, str],
    inequality: Inequality,
    margin: Mapping[Key, float],
    missing: Sequence[str],
    *,
    testable: bool,
    confidence: float,
) -> Comparison:
    """The comparison at `place` (unit, branch, measure), from the margin of each seed; p-values
    only if `testable` and where there are two seeds at least."""
    unit, branch, measure = place
    summary = summarise(margin.values(), confidence)
    p_holds, p_fails = t_test(list(margin.values())) if testable and summary.sd is not None else (None, None)
    return Comparison(
        unit=unit,
        branch=branch,
        measure=measure,
        inequality=inequality.text,
        margin=summary.mean,
        low=summary.low,
        high=summary.high,
        n=summary.n,
        p_holds=p_holds,
        p_fails=p_fails,
        missing=tuple(missing),
    )


def decide_tests(comparisons: Sequence[Comparison], confidence: float, one_of_several: bool) -> list[str]:
    """HOLDS, FAILS or OPEN for each comparison of a claim.

    The p-values of failing are Holm-adjusted over the claim's tests, because one failure refutes
    the claim. The p-values of holding are adjusted where `one_of_several` may support it.
    """
    level = (1 - confidence) / 2
    p_holds = [comparison.p_holds for comparison in comparisons]
    if one_of_several:
        p_holds = holm(p_holds)
    p_fails = holm([comparison.p_fails for comparison in comparisons])
    states = []
    for holding, failing in zip(p_holds, p_fails, strict=True):
        state = HOLDS if holding is not None and holding < level else OPEN
        states.append(FAILS if failing is not None and failing < level else state)
    return states


def decide_conjunctions(groups: Sequence[Sequence[Comparison]], confidence: float) -> list[str]:
    """HOLDS, FAILS or OPEN for each group of comparisons that must all hold, Holm-adjusted over the
    groups.

    The p-value of a group's holding is the largest of its comparisons, because each of them must
    succeed. That of its failing is the smallest times their number, because one is enough. A single
    group is thus judged as `decide_tests` and `conjunction` do. OPEN if a comparison has no test.
    """
    level = (1 - confidence) / 2
    p_holds: list[float | None] = []
    p_fails: list[float | None] = []
    for group in groups:
        holding = [c.p_holds for c in group if c.p_holds is not None]
        failing = [c.p_fails for c in group if c.p_fails is not None]
        tested = len(holding) == len(failing) == len(group) > 0
        p_holds.append(max(holding) if tested else None)
        p_fails.append(min(1.0, len(failing) * min(failing)) if tested else None)
    states = []
    for held, failed in zip(holm(p_holds), holm(p_fails), strict=True):
        state = HOLDS if held is not None and held < level else OPEN
        states.append(FAILS if failed is not None and failed < level else state)
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
    """More than half must hold; half that fail are enough to fail."""
    if 2 * states.count(HOLDS) > len(states):
        return HOLDS
    return FAILS if 2 * states.count(FAILS) >= len(states) > 0 else OPEN
