"""A verdict on each claim of results/paper/claims.yaml: supported, contradicted or undecided."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol

from sns.analysis.cells import PAPER_SETTINGS, Results
from sns.analysis.claims.claim import Claim, load_claims, places
from sns.analysis.claims.measures import Measured, Place, Printed
from sns.analysis.claims.rules import (
    FAILS,
    HOLDS,
    OPEN,
    Comparison,
    Inequality,
    compare,
    conjunction,
    decide_tests,
    disjunction,
    majority,
)
from sns.common.errors import UserError

VERDICTS = {HOLDS: "supported", FAILS: "contradicted", OPEN: "undecided"}
NOUNS = {("setting",): "settings", ("setting", "regime"): "rows", ("setting", "method"): "cells"}


class Source(Protocol):
    """Gives the numbers of a cell: `Measured` from records, `Printed` from the paper's table."""

    def values(self, measure: str, place: Place) -> Mapping[int, float]: ...


@dataclass(frozen=True)
class ClaimVerdict:
    """What the records say about one claim; `margin`, `low`, `high` and `n` are of the decisive
    comparison."""

    id: str
    section: str
    where: str
    statement: str
    verdict: str  # supported | contradicted | undecided
    reason: str  # what decides the claim, or what is missing
    settings: tuple[str, ...]
    on_paper_settings: bool
    units_holding: int
    units: int
    decisive: str
    margin: float | None
    low: float | None
    high: float | None
    n: int
    paper: str  # supported | not supported | not in table: the printed Table 1
    paper_count: str
    rule: str
    comparisons: tuple[Comparison, ...]
    states: tuple[str, ...]  # holds | fails | open for each comparison
    missing: tuple[str, ...]


def _margin(source: Source, measure: str, inequality: Inequality, unit: Place) -> dict[int, float]:
    def lookup(name: str) -> dict[int, float]:
        columns = [source.values(measure, place) for place in places(name, unit)]
        return {seed: max(column[seed] for column in columns) for seed in set.intersection(*map(set, columns))}

    return inequality.margin(lookup)


def _compare(measured: Measured, claim: Claim, unit: Place) -> list[Comparison]:
    comparisons = []
    for branch, (measure, inequalities) in enumerate(claim.expect):
        for inequality in inequalities:
            cells = [place for _, name in inequality.terms for place in places(name, unit)]
            phrases = (text for place in cells for text in measured.missing(measure, place, claim.minimum_seeds))
            missing = list(dict.fromkeys(phrases))
            margin = _margin(measured, measure, inequality, unit)
            if not missing and len(margin) < claim.minimum_seeds:
                missing = [f"{unit}: {len(margin)} of {claim.minimum_seeds} seeds in common with {measure}"]
            enough = len(margin) >= claim.minimum_seeds
            place = str(unit), branch, measure
            comparisons.append(
                compare(place, inequality, margin, missing, testable=enough, confidence=claim.confidence)
            )
    return comparisons


def _unit_state(claim: Claim, unit: Place, comparisons: Sequence[Comparison], states: Sequence[str]) -> str:
    branches: dict[int, list[str]] = {}
    for comparison, state in zip(comparisons, states, strict=True):
        if comparison.unit == str(unit):
            branches.setdefault(comparison.branch, []).append(state)
    joined = [conjunction(branch) for branch in branches.values()]
    return disjunction(joined) if claim.either else conjunction(joined)


def judge_claim(claim: Claim, measured: Measured, settings: Sequence[str]) -> ClaimVerdict:
    """The verdict on one claim in `settings`, without those of the paper's settings that the claim
    is not about."""
    chosen = tuple(name for name in settings if name in claim.settings or name not in PAPER_SETTINGS)
    units = claim.units(chosen)
    comparisons = [comparison for unit in units for comparison in _compare(measured, claim, unit)]
    states = decide_tests(comparisons, claim.confidence, claim.either or claim.combine == "most")
    unit_states = {unit: _unit_state(claim, unit, comparisons, states) for unit in units}
    total = majority(list(unit_states.values())) if claim.combine == "most" else conjunction(list(unit_states.values()))
    decisive = _decisive(total, comparisons, states)
    paper, count = printed(claim)
    missing = tuple(dict.fromkeys(text for comparison in comparisons for text in comparison.missing))
    return ClaimVerdict(
        id=claim.id,
        section=claim.section,
        where=claim.where,
        statement=claim.statement,
        verdict=VERDICTS[total],
        reason=_reason(total, unit_states, decisive, missing, claim),
        settings=chosen,
        on_paper_settings=all(name in PAPER_SETTINGS for name in chosen),
        units_holding=sum(state == HOLDS for state in unit_states.values()),
        units=len(units),
        decisive="" if decisive is None else _name(decisive),
        margin=None if decisive is None else decisive.margin,
        low=None if decisive is None else decisive.low,
        high=None if decisive is None else decisive.high,
        n=0 if decisive is None else decisive.n,
        paper=paper,
        paper_count=count,
        rule=claim.rule,
        comparisons=tuple(comparisons),
        states=tuple(states),
        missing=missing,
    )


def _decisive(total: str, comparisons: Sequence[Comparison], states: Sequence[str]) -> Comparison | None:
    """The comparison that decides the verdict; of several, the one that is most against the
    claim."""
    deciding = [c for c, state in zip(comparisons, states, strict=True) if state == total and c.p_holds is not None]
    tested = deciding or [c for c in comparisons if c.p_holds is not None]
    if tested:
        return max(tested, key=lambda c: (c.p_holds or 0.0, -(c.margin or 0.0)))
    measured = [c for c in comparisons if c.margin is not None]
    return min(measured, key=lambda c: c.margin or 0.0, default=None)


def _name(comparison: Comparison) -> str:
    return f"{comparison.unit}: {comparison.inequality} ({comparison.measure})"


def _reason(
    total: str, unit_states: Mapping[Place, str], decisive: Comparison | None, missing: Sequence[str], claim: Claim
) -> str:
    holding = f"{sum(state == HOLDS for state in unit_states.values())} of {len(unit_states)} units hold"
    if not unit_states:
        return f"the claim is about {', '.join(claim.settings)}"
    if total == FAILS and decisive is not None:
        return f"{holding}; refuted by {_name(decisive)}"
    if total == HOLDS:
        return holding
    if missing:
        shown = "; ".join(missing[:3]) + (f"; and {len(missing) - 3} more" if len(missing) > 3 else "")
        return f"{holding}; missing: {shown}"
    assert decisive is not None  # nothing is missing, so every comparison has a margin
    crosses = decisive.low is None or decisive.high is None or decisive.low <= 0 <= decisive.high
    why = f"the {claim.confidence:.0%} interval includes zero" if crosses else "not significant after Holm's correction"
    return f"{holding}; {why}: {_name(decisive)}"


@cache
def printed(claim: Claim) -> tuple[str, str]:
    """Whether the printed digits of Table 1 support the claim, and in how many units."""
    source = Printed()
    outcome = []
    for unit in claim.units(claim.settings):
        branches = []
        for measure, inequalities in claim.expect:
            margins = [_margin(source, measure, inequality, unit) for inequality in inequalities]
            if not all(margins):
                return "not in table", ""
            branches.append(all(margin[0] > 0 for margin in margins))
        outcome.append(any(branches) if claim.either else all(branches))
    enough = 2 * sum(outcome) > len(outcome) if claim.combine == "most" else all(outcome)
    noun = NOUNS.get(claim.unit, "cells")
    return "supported" if enough else "not supported", f"{sum(outcome)} of {len(outcome)} {noun}"


def settings_of(results: Results, settings: Sequence[str] | None = None) -> tuple[str, ...]:
    """The settings to judge in: `settings`; else the paper's where one of them has records, else
    all that have records.

    UserError where there is no run, or where one of `settings` has no record.
    """
    if not results.cells:
        raise UserError("there is no finished run to judge the claims by: run an experiment or give another folder")
    for name in settings or ():
        if name not in results.settings:
            raise UserError(f"setting={name} has no record; settings with records: {', '.join(results.settings)}")
    of_paper = set(results.settings) & set(PAPER_SETTINGS)
    return tuple(settings or (PAPER_SETTINGS if of_paper else results.settings))


def judge_all(measured: Measured, settings: Sequence[str]) -> list[ClaimVerdict]:
    """A verdict on every claim, in `settings`; each says whether these are the paper's."""
    return [judge_claim(claim, measured, settings) for claim in load_claims()]
