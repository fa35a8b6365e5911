"""The sensitivity studies, and the records that each may compare: runs that differ in its field
only."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import yaml

from sns.analysis.options import options_of
from sns.common.folders import project_folder
from sns.record.store import Record

EXPERIMENTS = project_folder("configs") / "experiment"
Runs = dict[int, Record]  # by seed
Place = tuple[str, str, tuple[str, ...]]  # setting, regime, methods that are compared with each other


def swept(experiment: str) -> dict[str, tuple[Any, ...]]:
    """The fields that an experiment of configs/experiment/ sweeps, with their values."""
    text = (EXPERIMENTS / f"{experiment}.yaml").read_text(encoding="utf-8")
    params = yaml.safe_load(text)["hydra"]["sweeper"]["params"]
    return {field: tuple(yaml.safe_load(f"[{values}]")) for field, values in params.items()}


@dataclass(frozen=True)
class Study:
    """One field of the configuration, its values, and its default in the setting."""

    name: str
    question: str
    field: str
    values: tuple[Any, ...]
    default: Any
    settings: tuple[str, ...]
    regimes: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]  # methods whose runs are compared with each other
    seeds: tuple[int, ...]
    with_main: bool = False  # whether the runs with the default are those of the experiment pocket

    def has(self, record: Record) -> bool:
        """Whether the record has a setting, batch regime and method of this study."""
        result = record.result
        methods = {name for cell in self.cells for name in cell}
        return result.setting in self.settings and result.regime in self.regimes and result.method in methods


def _study(name: str, question: str, default: Any) -> Study:
    """The study that configs/experiment/sensitivity/`name`.yaml trains: it sweeps one field, or the
    methods themselves. If it does not train the default, the experiment pocket does."""
    params = swept(f"sensitivity/{name}")
    seeds, settings, regimes, methods = (params.pop(key) for key in ("seed", "setting", "batch", "method"))
    if not params:
        return Study(name, question, "method.name", methods, default, settings, regimes, (methods,), seeds)
    [(field, values)] = params.items()
    cells, others = tuple((method,) for method in methods), default not in values
    values = (default, *values) if others else values
    return Study(name, question, field, values, default, settings, regimes, cells, seeds, others)


STUDIES = (
    _study("precision", "Does training in bf16 change the results?", "fp32"),
    _study("ghost", "Over how many images are batch-norm statistics taken in the large batch?", 104),
    _study("decay_scope", "Does weight decay shrink all parameters or weight matrices only?", "all"),
    _study("dropout", "Does DenseNet train with dropout?", 0.0),
    _study("iterations", "How many power iterations an update?", 1),
    _study(
        "operator",
        "At the same lambda, is the norm of the reshaped kernel penalised, or that of the convolution as a linear map?",
        "spectral",
    ),
)


def collect(study: Study, records: Iterable[Record]) -> tuple[dict[Place, dict[Any, Runs]], list[str]]:
    """For each setting, regime and cell of the study the runs by value of its field and by seed;
    and one sentence on each group of runs that is left out.

    All studies share one folder. A record belongs to the study if the fields of the other studies
    have their defaults and nothing but the study's field differs from the runs with its default.
    Each value has the runs of one variant.
    """
    notes: list[str] = []
    own = [record for record in records if study.has(record) and _others_at_default(study, record)]
    runs: dict[Place, dict[Any, Runs]] = {}
    for setting, regime, methods in itertools.product(study.settings, study.regimes, study.cells):
        cell = [
            r for r in own if (r.result.setting, r.result.regime) == (setting, regime) and r.result.method in methods
        ]
        runs[setting, regime, methods] = _comparable(study, cell, notes)
    return runs, notes


def _others_at_default(study: Study, record: Record) -> bool:
    others = (other for other in STUDIES if other is not study and other.has(record))
    return all(option(record, other.field) == other.default for other in others)


def option(record: Record, field: str) -> Any:
    """The value of `section.name` in the configuration of a run; None where there is none."""
    section, _, name = field.partition(".")
    part = record.config.get(section)
    return part.get(name) if isinstance(part, dict) else None


def _comparable(study: Study, records: Iterable[Record], notes: list[str]) -> dict[Any, Runs]:
    """The runs by value, all with the images and the configuration of the default's runs except for
    the field."""
    groups: dict[Any, dict[tuple[str, str], Runs]] = {}  # by value, then by variant and images
    for record in records:
        kind = record.result.variant, record.images or ""
        groups.setdefault(option(record, study.field), {}).setdefault(kind, {})[record.result.seed] = record
    if not groups:
        return {}
    default = groups.get(study.default) or next(iter(groups.values()))
    reference = next(iter(default[_largest(default)].values()))
    chosen: dict[Any, Runs] = {}
    for value, kinds in groups.items():
        for kind, runs in list(kinds.items()):
            if differing := _differing(reference, next(iter(runs.values())), study.field):
                reason = f"they differ in {', '.join(differing)}, not in {study.field} alone"
                notes.append(f"Left out: {_names(runs)}: {reason}.")
                del kinds[kind]
        if kinds:
            chosen[value] = kinds.pop(_largest(kinds))
        for runs in kinds.values():
            notes.append(f"Left out: {_names(runs)}: another variant than most runs of {study.field}={value}.")
    return chosen


def _largest(kinds: dict[tuple[str, str], Runs]) -> tuple[str, str]:
    return max(kinds, key=lambda kind: (len(kinds[kind]), kind))


def _differing(first: Record, second: Record, field: str) -> list[str]:
    """The fields other than `field` that both configurations have, that can change a result and
    that differ."""
    a, b = options_of(first), options_of(second)
    names = sorted(key for key in a.keys() & b.keys() if a[key] != b[key] and key != field)
    return names + (["the images"] if first.images != second.images else [])


def _names(runs: Runs) -> str:
    return ", ".join(record.result.run_id for record in runs.values())
