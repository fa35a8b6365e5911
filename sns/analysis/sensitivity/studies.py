"""The studies of sensitivity, and which records each of them may compare: runs that differ in its
field alone."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sns.record.store import Record

# Fields that cannot change a result and may therefore differ between runs that are compared;
# sns/config/schema.py decides.
FREE = {
    "": ("experiment", "grid", "results", "seed", "launch", "track"),
    "data": ("root", "download", "path"),
    "batch": ("micro",),
    "train": (
        *("device", "mode", "memory_format", "threads", "progress", "keep_checkpoint"),
        *("checkpoint_minutes", "time_limit_minutes", "stop_after"),
    ),
    "measure": ("batch_size",),
}
Runs = dict[int, Record]  # by seed


@dataclass(frozen=True)
class Study:
    """One field, the values that configs/experiment/sensitivity/<name>.yaml gives it, and the
    setting's own value."""

    name: str
    question: str
    field: str
    values: tuple[Any, ...]
    default: Any
    setting: str
    regimes: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]  # methods whose runs are compared with each other

    def has(self, record: Record) -> bool:
        """Whether the record is of this study's setting, batch regime and methods."""
        result = record.result
        methods = {name for cell in self.cells for name in cell}
        return result.setting == self.setting and result.regime in self.regimes and result.method in methods


VGG = "vgg_pocket"
STUDIES = (
    Study(
        "ghost",
        "Over how many images are batch-norm statistics taken in the large batch?",
        *("batch.ghost", (52, 104, 208, 416), 104),
        *(VGG, ("large",), (("vanilla",), ("spectral",))),
    ),
    Study(
        "decay_scope",
        "Does weight decay shrink all parameters or weight matrices only?",
        *("method.scope", ("all", "weights"), "all"),
        *(VGG, ("small", "large"), (("decay",),)),
    ),
    Study(
        "dropout",
        "Does DenseNet train with dropout?",
        *("model.dropout", (0.0, 0.2), 0.0),
        *("densenet_pocket", ("small",), (("vanilla",), ("decay",))),
    ),
    Study(
        "iterations",
        "How many power iterations an update?",
        *("method.n_iterations", (1, 2, 5, 10), 1),
        *(VGG, ("small",), (("spectral",),)),
    ),
    Study(
        "operator",
        "Is the norm of the reshaped kernel penalised or that of the convolution as a linear map, at the same lambda?",
        *("method.name", ("spectral", "spectral_operator"), "spectral"),
        *(VGG, ("small", "large"), (("spectral", "spectral_operator"),)),
    ),
)


def collect(
    study: Study, records: Iterable[Record]
) -> tuple[dict[tuple[str, tuple[str, ...]], dict[Any, Runs]], list[str]]:
    """For each regime and cell of the study: value of its field to the runs by seed; and what was
    left out, and why.

    All studies share one folder: a record counts where the fields of the other studies have their
    defaults, and where it differs from the default's runs in the field alone. Of each value one
    variant is kept.
    """
    notes: list[str] = []
    own = [record for record in records if study.has(record) and _at_home(study, record)]
    found: dict[tuple[str, tuple[str, ...]], dict[Any, Runs]] = {}
    for regime in study.regimes:
        for methods in study.cells:
            cell = [r for r in own if r.result.regime == regime and r.result.method in methods]
            found[regime, methods] = _comparable(study, cell, notes)
    return found, notes


def _at_home(study: Study, record: Record) -> bool:
    """Whether what the other studies vary is at its default: all studies share one folder."""
    others = (other for other in STUDIES if other is not study and other.has(record))
    return all(_get(record, other.field) == other.default for other in others)


def _get(record: Record, field: str) -> Any:
    section, _, name = field.partition(".")
    part = record.config.get(section)
    return part.get(name) if isinstance(part, dict) else None


def _fingerprint(record: Record) -> str:
    data = record.result.environment.get("data")
    return str(data.get("fingerprint")) if isinstance(data, dict) else ""


def _comparable(study: Study, records: Iterable[Record], notes: list[str]) -> dict[Any, Runs]:
    """Value to its runs, all of which have the default's configuration but for the field, and its
    images."""
    kinds: dict[Any, dict[tuple[str, str], Runs]] = {}
    for record in records:
        kind = record.result.variant, _fingerprint(record)
        kinds.setdefault(_get(record, study.field), {}).setdefault(kind, {})[record.result.seed] = record
    if not kinds:
        return {}
    default = kinds.get(study.default) or next(iter(kinds.values()))
    reference = next(iter(default[_most(default)].values()))
    kept: dict[Any, Runs] = {}
    for value, found in kinds.items():
        for kind, runs in list(found.items()):
            differing = _differing(reference, next(iter(runs.values())), study.field)
            if differing:
                told = f"they differ in {', '.join(differing)}, not in {study.field} alone"
                notes.append(f"Left out: {_names(runs)}: {told}.")
                del found[kind]
        if found:
            kept[value] = found.pop(_most(found))
        for runs in found.values():
            notes.append(f"Left out: {_names(runs)}: another variant than most runs of {study.field}={value}.")
    return kept


def _most(found: dict[tuple[str, str], Runs]) -> tuple[str, str]:
    return max(found, key=lambda kind: (len(found[kind]), kind))


def _differing(first: Record, second: Record, field: str) -> list[str]:
    """What both configurations state, can change a result and is not the same, `field` apart."""
    a, b = dict(_flat(first.config)), dict(_flat(second.config))
    names = sorted(key for key in a.keys() & b.keys() if a[key] != b[key] and key != field)
    return names + (["the images"] if _fingerprint(first) != _fingerprint(second) else [])


def _flat(tree: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Dotted name and value of everything that can change a result."""
    for section, part in tree.items():
        if isinstance(part, dict) and section not in FREE[""]:
            yield from ((f"{section}.{k}", v) for k, v in part.items() if k not in FREE.get(section, ()))
        elif section not in FREE[""]:
            yield section, part


def _names(runs: Runs) -> str:
    return ", ".join(record.result.run_id for record in runs.values())
