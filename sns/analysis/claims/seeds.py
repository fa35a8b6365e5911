"""With which seeds the claims are judged: with every one, or twice where claims.yaml fixed the
number of seeds of an experiment before its further runs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from sns.analysis.cells import METHODS, PAPER, REGIMES, Cell, Results
from sns.analysis.claims.claim import read_rules
from sns.analysis.claims.measures import Measured
from sns.analysis.claims.verdicts import ClaimVerdict, judge_all, settings_of
from sns.common.errors import UserError


@dataclass(frozen=True)
class Seeds:
    """Seeds 0 to `first` - 1 were run first; 0 to `fixed` - 1 are judged in the end."""

    first: int
    fixed: int


@cache
def load_seeds(path: Path = PAPER / "claims.yaml") -> Mapping[str, Seeds]:
    """The entries `seeds` of the file, by experiment; UserError where one is malformed."""
    entries = read_rules(path).get("seeds", {})
    if not isinstance(entries, dict):
        raise UserError(f"{path}: seeds must name experiments, as in seeds: {{pocket: {{first: 3, fixed: 9}}}}")
    return {str(name): _seeds(path, str(name), entry) for name, entry in entries.items()}


def _seeds(path: Path, name: str, entry: Any) -> Seeds:
    numbers = list(entry.values()) if isinstance(entry, dict) and set(entry) == {"first", "fixed"} else []
    # Two seeds have a standard deviation. True and 3.0 are no counts.
    if not numbers or any(type(number) is not int for number in numbers) or not 2 <= entry["first"] < entry["fixed"]:
        raise UserError(
            f"{path}: the seeds of {name} must be two whole numbers with 2 <= first < fixed, as in "
            f"{{first: 3, fixed: 9}}, not {entry}"
        )
    return Seeds(**entry)


def plan_of(results: Results) -> Seeds | None:
    """The entry of the one experiment that all runs belong to; None where there is none."""
    entries = load_seeds()
    experiments = {record.result.experiment for cell in results.cells for record in cell.records}
    return entries.get(experiments.pop()) if len(experiments) == 1 else None


def in_plan(results: Results) -> Results:
    """The runs that each setting alone is judged with in the end."""
    plan = plan_of(results)
    if plan is None:
        return results
    cells: list[Cell] = []
    for setting in results.settings:
        own = results.with_seeds(_in_common(_cells(results, [setting]), plan.fixed))
        cells += [cell for cell in own.cells if cell.setting == setting]
    return replace(results, cells=tuple(cells))


def _cells(results: Results, settings: Sequence[str]) -> list[Cell]:
    """The cells that claims are about, with or without runs."""
    return [results.cell(place, method, regime) for place in settings for regime in REGIMES for method in METHODS]


def _in_common(cells: Sequence[Cell], planned: int) -> list[int]:
    """Those of the seeds 0 to `planned` - 1 that every cell with runs has."""
    begun = [{record.result.seed for record in cell.records} for cell in cells if cell.records]
    return sorted(set(range(planned)).intersection(*begun)) if begun else []


@dataclass(frozen=True)
class Judgement:
    """The verdicts on all claims with one set of seeds."""

    verdicts: tuple[ClaimVerdict, ...]
    seeds: tuple[int, ...]
    planned: int | None = None  # how many seeds claims.yaml fixes; None: as many as there are
    lacking: str = ""  # which runs are still to come; the verdicts are provisional until then

    @property
    def name(self) -> str:
        """Such as `n = 9`; empty without a plan."""
        return "" if self.planned is None else f"n = {self.planned}"

    @property
    def heading(self) -> str:
        """`name`, with what is lacking."""
        return f"{self.name} (provisional: {self.lacking})" if self.lacking else self.name

    def word(self, verdict: ClaimVerdict) -> str:
        """The verdict, marked where it is provisional."""
        return f"{verdict.verdict} (provisional)" if self.lacking else verdict.verdict


def judge(results: Results, settings: Sequence[str] | None = None) -> tuple[Judgement, ...]:
    """The claims judged with every seed; where claims.yaml has `seeds` for the experiment, twice by
    the same rules: with the first ones, and with all that it fixed and no other.

    Until all of these runs are there, the seeds are those that all cells have in common.
    `settings` and errors as in `settings_of`; UserError of `load_seeds` too.
    """
    chosen, plan = settings_of(results, settings), plan_of(results)
    if plan is None:
        seeds = {record.result.seed for cell in results.cells for record in cell.records}
        return (Judgement(_verdicts(results, chosen), tuple(sorted(seeds))),)
    return tuple(_judge_with(results, chosen, count) for count in (plan.first, plan.fixed))


def _judge_with(results: Results, settings: Sequence[str], planned: int) -> Judgement:
    cells = _cells(results, settings)
    seeds, absent = _in_common(cells, planned), sum(not cell.records for cell in cells)
    lacking = [f"{len(seeds)} of {planned} seeds so far"] if len(seeds) < planned else []
    lacking += [f"{absent} of {len(cells)} cells not run"] if absent else []
    return Judgement(_verdicts(results.with_seeds(seeds), settings), tuple(seeds), planned, ", ".join(lacking))


def _verdicts(results: Results, settings: Sequence[str]) -> tuple[ClaimVerdict, ...]:
    return tuple(judge_all(Measured(results), settings))


def by_claim(judged: Sequence[Judgement]) -> Iterator[tuple[ClaimVerdict, ...]]:
    """For each claim its verdict in every judgement."""
    return zip(*(own.verdicts for own in judged), strict=True)


def changed(judged: Sequence[Judgement]) -> list[tuple[ClaimVerdict, ClaimVerdict]]:
    """The first and the last verdict on each claim on which they differ."""
    return [(row[0], row[-1]) for row in by_claim(judged) if row[0].verdict != row[-1].verdict]
