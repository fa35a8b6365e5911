"""The claims of results/paper/claims.yaml as objects: the scope of each and its decision rule."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from sns.analysis.cells import METHODS, PAPER, PAPER_SETTINGS, REGIMES
from sns.analysis.claims.measures import DESCRIPTIONS, Place
from sns.analysis.claims.rules import Inequality, parse_inequality
from sns.common.files import read_yaml

LEADER = "spectral"  # the method that the paper proposes
OTHERS = tuple(method for method in METHODS if method != LEADER)


@dataclass(frozen=True)
class Claim:
    """One statement of the paper and its decision rule."""

    id: str
    section: str
    where: str
    statement: str
    settings: tuple[str, ...]
    regimes: tuple[str, ...]
    methods: tuple[str, ...]
    unit: tuple[str, ...]
    expect: tuple[tuple[str, tuple[Inequality, ...]], ...]  # (measure, inequalities)
    either: bool
    combine: str  # all | most
    test: str
    confidence: float
    minimum_seeds: int

    @property
    def rule(self) -> str:
        """The rule as a sentence."""
        measures = [f"{', '.join(x.text for x in holds)} in {DESCRIPTIONS[name]}" for name, holds in self.expect]
        scope = "every unit must hold" if self.combine == "all" else "more than half of the units must hold"
        wanted = (" or " if self.either else "; and ").join(measures)
        return (
            f"For each {' x '.join(self.unit)}: {wanted}. {self.test.capitalize()} over seeds, {self.confidence:.0%} "
            f"interval, at least {self.minimum_seeds} seeds; {scope}."
        )

    def units(self, settings: Sequence[str]) -> list[Place]:
        """The units of the claim in these settings."""
        regimes = self.regimes if "regime" in self.unit else (None,)
        methods = self.methods if "method" in self.unit else (None,)
        return [Place(*coordinates) for coordinates in product(settings, regimes, methods)]


@cache
def read_rules(path: Path = PAPER / "claims.yaml") -> Mapping[str, Any]:
    """The file of the claims as it is: `claims`, `defaults` and `seeds`."""
    content: Mapping[str, Any] = read_yaml(path)
    return content


@cache
def load_claims(path: Path = PAPER / "claims.yaml") -> tuple[Claim, ...]:
    """Every claim of the file, in its order; KeyError or ValueError where a rule does not have the
    form that the head of claims.yaml describes."""
    content = read_rules(path)
    return tuple(_claim({**entry, "rule": {**content["defaults"], **entry["rule"]}}) for entry in content["claims"])


def _claim(entry: Mapping[str, Any]) -> Claim:
    scope, rule = entry["scope"], entry["rule"]
    for group in rule["expect"]:
        if group["measure"] not in DESCRIPTIONS:
            raise ValueError(f"claim {entry['id']}: unknown measure {group['measure']!r}")
    return Claim(
        id=entry["id"],
        section=entry["section"],
        where=entry["where"],
        statement=entry["statement"],
        settings=PAPER_SETTINGS if scope["settings"] == "paper" else tuple(scope["settings"]),
        regimes=tuple(scope.get("regimes", REGIMES)),
        methods=tuple(scope.get("methods", METHODS)),
        unit=tuple(rule["unit"]),
        expect=tuple((group["measure"], tuple(map(parse_inequality, group["holds"]))) for group in rule["expect"]),
        either=rule["either"],
        combine=rule["combine"],
        test=rule["test"],
        confidence=rule["confidence"],
        minimum_seeds=rule["minimum_seeds"],
    )


def places(name: str, unit: Place) -> list[Place]:
    """The cells that a name in an inequality stands for in a unit; several for best_other."""
    regime, methods = unit.regime, [unit.method]
    for part in name.split("."):
        if part in REGIMES:
            regime = part
        elif part == "best_other":
            methods = list(OTHERS)
        elif part in METHODS:
            methods = [part]
        elif part != "value":
            raise ValueError(f"{name!r} names neither a method nor a regime")
    return [Place(unit.setting, regime, method) for method in methods]
