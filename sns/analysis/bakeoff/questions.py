"""The questions of results/bakeoff/claims.yaml, and of other files of its form, and their answers.

The head of a file says how to read its rules. Tests and corrections are those of the paper's claims
(sns/analysis/claims/rules.py).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Protocol

from sns.analysis.cells import METHODS, REGIMES, Results, by_optimizer
from sns.analysis.claims.measures import DESCRIPTIONS, Measured, Place
from sns.analysis.claims.rules import (
    FAILS,
    HOLDS,
    OPEN,
    Comparison,
    Inequality,
    compare,
    conjunction,
    decide_conjunctions,
    disjunction,
)
from sns.analysis.claims.rules import parse_inequality as parse
from sns.analysis.claims.verdicts import VERDICTS
from sns.common.files import read_yaml
from sns.common.folders import project_folder

RULES = project_folder("results/bakeoff") / "claims.yaml"
COORDINATES = {"regime": "batch size", "optimizer": "Adam setting"}  # beside setting and seed
Spot = tuple[str, str]  # setting, and regime or optimizer
Key = tuple[str, str, int]  # the same and the seed: what the tests pair


@dataclass(frozen=True)
class Question:
    """One question and its rule. Without `expect` it is a measurement without a test."""

    id: str
    text: str
    experiments: tuple[str, ...]
    methods: tuple[str, ...]  # it is asked once for each of these; () once in all
    expect: tuple[tuple[str, tuple[Inequality, ...]], ...]  # (measure, inequalities)
    words: tuple[str, ...]  # what each of these measures is
    coordinate: str  # of COORDINATES
    under: tuple[str, ...]  # the values of it at which it is asked; () all
    test: str  # paired t | count | rounds: the head of results/sngan/claims.yaml
    combine: str  # all | any, of a count
    confidence: float
    minimum_seeds: int

    @property
    def rule(self) -> str:
        """The rule as a sentence."""
        rules = zip(self.expect, self.words, strict=True)
        wanted = "; and ".join(f"{' and '.join(x.text for x in holds)} in {words}" for (_, holds), words in rules)
        name = COORDINATES[self.coordinate]
        place = f" Under {', '.join(self.under)}." if self.under else ""
        if self.test == "rounds":
            return f"{wanted}. Without a test: between the slowest and the fastest round."
        if self.test == "count":
            where = "each" if self.combine == "all" else "at least one"
            return f"{wanted}.{place} In {where} {name}, by the mean over {self.minimum_seeds} seeds or more; no test."
        holm = ", Holm's correction over the methods" if self.methods else ""
        return (
            f"{wanted}.{place} Paired t over settings, {name}s and seeds, {self.confidence:.0%} interval, "
            f"at least {self.minimum_seeds} seeds each{holm}."
        )


class Source(Protocol):
    """The measures of an experiment's runs."""

    def asked(self, question: Question) -> Sequence[Spot]:
        """Where the question is asked."""

    def values(self, measure: str, own: str | None, name: str) -> Mapping[Key, float]:
        """The measure of `name` by spot and seed; `own` is the method called `value`."""

    def missing(self, measure: str, name: str, own: str | None, needed: int, spots: Sequence[Spot]) -> Iterator[str]:
        """A phrase for each of `spots` in which `name` has fewer than `needed` seeds."""


@dataclass(frozen=True)
class Local:
    """The answer at one spot alone, not corrected for the number of tests."""

    setting: str
    part: str  # the regime or the optimizer
    state: str  # holds | fails | open
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True)
class Answer:
    """What the records say to a question, for one method where it is asked of each."""

    question: Question
    method: str | None
    state: str  # holds | fails | open
    comparisons: tuple[Comparison, ...]  # over all settings, batch sizes and seeds
    local: tuple[Local, ...]

    @property
    def verdict(self) -> str:
        """supported | contradicted | undecided."""
        return VERDICTS[self.state]

    @property
    def reason(self) -> str:
        """Why an answer is undecided; "" for the others."""
        missing = list(dict.fromkeys(text for c in self.comparisons for text in c.missing))
        if self.state != OPEN:
            return ""
        if self.question.test == "count" and not missing:
            return f"a tie: {', '.join(own.part for own in self.local if own.state == OPEN)}"
        if missing:
            return "missing: " + "; ".join(missing[:3]) + (f"; and {len(missing) - 3} more" if missing[3:] else "")
        crosses = [c.inequality for c in self.comparisons if c.low is None or c.high is None or c.low <= 0 <= c.high]
        return f"the interval includes zero: {', '.join(crosses)}" if crosses else "not significant after correction"


class Experiment:
    """The measures of an experiment's runs, by optimizer."""

    def __init__(self, results: Results) -> None:
        self.results = by_optimizer(results)
        methods = {*results.methods, *(name for question in load_questions() for name in question.methods)}
        self.measured = {name: Measured(own, sorted(methods)) for name, own in self.results.items()}
        places = dict.fromkeys((c.setting, c.regime) for own in self.results.values() for c in own.cells)
        self.places = [(setting, regime) for setting in results.settings for regime in REGIMES]
        self.places = [place for place in self.places if place in places]

    def asked(self, question: Question) -> list[Spot]:
        """Every setting and batch size with runs."""
        return self.places

    def _place(self, name: str, own: str | None, at: Spot) -> tuple[str, Place]:
        """Optimizer and cell that a name in an inequality stands for."""
        method, _, optimizer = name.partition(".")
        only = next(iter(self.measured)) if len(self.measured) == 1 else ""
        return optimizer or only, Place(*at, own if method == "value" else method)

    def values(self, measure: str, own: str | None, name: str) -> dict[Key, float]:
        """The measure of `name` by setting, regime and seed; `own` is the method called `value`."""
        found: dict[Key, float] = {}
        for setting, regime in self.places:
            optimizer, place = self._place(name, own, (setting, regime))
            if optimizer in self.measured:
                values = self.measured[optimizer].values(measure, place)
                found |= {(setting, regime, seed): value for seed, value in values.items()}
        return found

    def missing(self, measure: str, name: str, own: str | None, needed: int, spots: Sequence[Spot]) -> Iterator[str]:
        """A phrase for each of `spots` in which `name` has too few seeds."""
        for at in spots:
            optimizer, place = self._place(name, own, at)
            if optimizer in self.measured:
                yield from self.measured[optimizer].missing(measure, place, needed)
            else:
                yield f"{optimizer or 'one optimizer'}: not run"


@cache
def load_questions(path: Path = RULES) -> tuple[Question, ...]:
    """Every question of the file in its order; KeyError or ValueError where a rule is malformed."""
    content = read_yaml(path)
    defaults = content["defaults"]
    setting, coordinate, seed = defaults["pairs"] if len(defaults["pairs"]) == 3 else ("", "", "")
    if (setting, seed, defaults["test"]) != ("setting", "seed", "paired t") or coordinate not in COORDINATES:
        raise ValueError(f"{path}: the test must be a paired t-test over setting, {' or '.join(COORDINATES)}, and seed")
    known = {*METHODS, "value", *(name for entry in content["questions"] for name in entry.get("each", ()))}
    known |= {defaults.get("subject", "value")}
    words = {**DESCRIPTIONS, **content.get("measures", {})}
    return tuple(_question({**defaults, **entry}, coordinate, words, known) for entry in content["questions"])


def _question(entry: Mapping[str, Any], coordinate: str, words: Mapping[str, str], known: set[str]) -> Question:
    expect = tuple((group["measure"], tuple(map(parse, group["holds"]))) for group in entry.get("expect", ()))
    for measure, inequalities in expect:
        names = {name.partition(".")[0] for x in inequalities for _, name in x.terms}
        if measure not in words or not names <= known:
            raise ValueError(f"question {entry['id']}: unknown measure {measure!r} or method in {sorted(names)}")
    if entry["test"] not in ("paired t", "count", "rounds") or entry.get("combine", "all") not in ("all", "any"):
        raise ValueError(f"question {entry['id']}: unknown test or combination")
    return Question(
        id=entry["id"],
        text=entry["question"],
        experiments=tuple(entry.get("experiments", (entry.get("experiment", "bakeoff"),))),
        methods=tuple(entry.get("each", ())),
        expect=expect,
        words=tuple(words[measure] for measure, _ in expect),
        coordinate=coordinate,
        under=tuple(entry.get("under", ())),
        test=entry["test"],
        combine=entry.get("combine", "all"),
        confidence=entry["confidence"],
        minimum_seeds=entry["minimum_seeds"],
    )


def answers(experiment: Source, question: Question) -> list[Answer]:
    """The answers to a question with a rule: one for each of its methods, or one in all.

    A method that the rule names itself is left out: it would be compared with itself.
    """
    named = {name for _, inequalities in question.expect for x in inequalities for _, name in x.terms}
    each: Sequence[str | None] = [method for method in question.methods if method not in named] or (None,)
    pooled = [_comparisons(experiment, question, own) for own in each]
    local = [tuple(_local(experiment, question, own)) for own in each]
    if question.test == "count":
        join = conjunction if question.combine == "all" else disjunction
        states = [join([part.state for part in parts]) for parts in local]
    else:
        states = decide_conjunctions(pooled, question.confidence)
    return [Answer(question, *parts) for parts in zip(each, states, map(tuple, pooled), local, strict=True)]


def _comparisons(experiment: Source, question: Question, own: str | None, at: Spot | None = None) -> list[Comparison]:
    """The comparisons of a question, over all places or in the one at `at`."""
    comparisons = []
    for branch, (measure, inequalities) in enumerate(question.expect):
        for inequality in inequalities:
            margin = inequality.margin(partial(experiment.values, measure, own))
            places = experiment.asked(question) if at is None else [at]
            counts = {place: sum(key[:2] == place for key in margin) for place in places}
            few = [place for place, count in counts.items() if count < question.minimum_seeds]
            comparison = compare(
                (own or question.id, branch, measure),
                inequality,
                {key: value for key, value in margin.items() if key[:2] in places},
                _missing(experiment, question, measure, inequality, own, few),
                testable=bool(places) and not few and question.test == "paired t",
                confidence=question.confidence,
            )
            comparisons.append(comparison)
    return comparisons


def _missing(
    experiment: Source,
    question: Question,
    measure: str,
    inequality: Inequality,
    own: str | None,
    few: Sequence[Spot],
) -> list[str]:
    """Why there are too few seeds at the places `few`."""
    if not few:
        return []
    phrases = (
        text
        for _, name in inequality.terms
        for text in experiment.missing(measure, name, own, question.minimum_seeds, few)
    )
    return list(dict.fromkeys(phrases)) or [f"{', '.join(place)}: too few seeds in common" for place in few]


def _local(experiment: Source, question: Question, own: str | None) -> Iterator[Local]:
    level = (1 - question.confidence) / 2
    for at in experiment.asked(question):
        comparisons = tuple(_comparisons(experiment, question, own, at))
        if question.test == "count":
            margins = [0.0 if c.margin is None or c.missing else c.margin for c in comparisons]
            holding, failing = [margin > 0 for margin in margins], [margin < 0 for margin in margins]
        else:
            holding = [c.p_holds is not None and c.p_holds < level for c in comparisons]
            failing = [c.p_fails is not None and c.p_fails < level for c in comparisons]
        yield Local(*at, FAILS if any(failing) else HOLDS if all(holding) else OPEN, comparisons)
