"""The numbers that the claims compare: of one run, or of one seed over the cells of a setting."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sns.analysis.cells import METHODS, REGIMES, Cell, Results, paper_table
from sns.analysis.stats import spearman
from sns.common.errors import RecordError
from sns.record.store import Record

RunMeasure = Callable[[Record], float | None]

MINIMUM_ROWS = 5  # evaluations a run must have for a rank correlation over its epochs


@dataclass(frozen=True)
class Place:
    """The coordinates of a cell; without regime or method, of all cells of the setting."""

    setting: str
    regime: str | None = None
    method: str | None = None

    def __str__(self) -> str:
        return ", ".join(part for part in (self.setting, self.method, self.regime) if part is not None)


def _final(name: str) -> RunMeasure:
    return lambda record: record.result.final.get(name)


def _over_epochs(x: str, y: str) -> RunMeasure:
    def measure(record: Record) -> float | None:
        history = record.history
        return spearman(history[x].tolist(), history[y].tolist()).rho if len(history) >= MINIMUM_ROWS else None

    return measure


def _hessian(split: str) -> RunMeasure:
    def measure(record: Record) -> float | None:
        measured = (record.result.measured.get("hessian") or {}).get(split)
        return None if measured is None else measured.get("eigenvalue")

    return measure


def excess_over_alpha(record: Record) -> float | None:
    """Highest test accuracy of the run minus alpha (section 4.1)."""
    accuracy, alpha = record.result.best.get("test_accuracy"), record.result.measured.get("alpha")
    return None if accuracy is None or alpha is None else accuracy - alpha


def flatness(record: Record) -> float | None:
    """Mean over the weight matrices of |W|_F^2 / (sigma^2 min(rows, columns)), in (0, 1]; 1 where
    all singular values are equal.

    |W|_F^2 / sigma^2 is the stable rank. A large square Gaussian matrix has 1/4, one that is not
    square has more.
    """
    layers = record.layers
    if layers is None or layers.empty:
        return None
    rank = (layers["frobenius"] / layers["sigma"]) ** 2
    return float((rank / layers[["rows", "columns"]].min(axis=1)).mean())


def jacobian_norm(record: Record) -> float | None:
    """Mean over test images of the spectral norm of d logits / d x at the end of training."""
    return (record.result.measured.get("lipschitz") or {}).get("jacobian_norm_mean")


def _test_over_train(record: Record) -> float | None:
    test, train = RUN["rank_test_gradient_gap"](record), RUN["rank_train_gradient_gap"](record)
    return None if test is None or train is None else test - train


RUN: dict[str, RunMeasure] = {
    "test_accuracy": _final("test_accuracy"),
    "train_accuracy": _final("train_accuracy"),
    "gap": _final("gap"),
    "gap_at_alpha": lambda record: record.result.measured.get("gap_at_alpha"),
    "excess_over_alpha": excess_over_alpha,
    "test_gradient_norm": _final("test_gradient_norm"),
    "sigma_max": _final("sigma_max"),
    "sigma_mean": _final("sigma_mean"),
    "frobenius": _final("frobenius"),
    "flatness": flatness,
    "hessian_train": _hessian("train"),
    "hessian_test": _hessian("test"),
    "rank_test_gradient_gap": _over_epochs("test_gradient_norm", "gap"),
    "rank_train_gradient_gap": _over_epochs("train_gradient_norm", "gap"),
    "rank_epoch_test_gradient": _over_epochs("epoch", "test_gradient_norm"),
    "rank_epoch_train_gradient": _over_epochs("epoch", "train_gradient_norm"),
    "rank_epoch_gap": _over_epochs("epoch", "gap"),
    "rank_test_over_train_gradient": _test_over_train,
    "jacobian_norm": jacobian_norm,
}

# Rank correlations over the cells of a setting: that of the first pair, minus that of the second.
CELLS: dict[str, tuple[tuple[str, str], ...]] = {
    "cells_hessian_gap": (("hessian_train", "gap"),),
    "cells_gradient_over_hessian": (("test_gradient_norm", "gap"), ("hessian_train", "gap")),
}
# The same over all methods of one setting and regime.
OVER_METHODS: dict[str, tuple[tuple[str, str], ...]] = {
    "methods_sigma_gap": (("sigma_mean", "gap"),),
    "methods_jacobian_gap": (("jacobian_norm", "gap"),),
    "methods_jacobian_over_sigma": (("jacobian_norm", "gap"), ("sigma_mean", "gap")),
}

DESCRIPTIONS = {
    "test_accuracy": "test accuracy at the last evaluation",
    "train_accuracy": "training accuracy at the last evaluation, evaluation mode",
    "gap": "training minus test accuracy at the last evaluation",
    "gap_at_alpha": "smallest training minus test accuracy while test accuracy exceeds alpha",
    "excess_over_alpha": "highest test accuracy minus alpha",
    "test_gradient_norm": "mean input-gradient norm on test images at the last evaluation",
    "sigma_max": "largest singular value of any weight matrix",
    "sigma_mean": "geometric mean over the weight matrices of their largest singular value",
    "frobenius": "Frobenius norm of all weight matrices together",
    "flatness": "mean over the weight matrices of stable rank / full rank, 1 is flat",
    "hessian_train": "largest Hessian eigenvalue of the unregularised loss on training images",
    "hessian_test": "largest Hessian eigenvalue of the unregularised loss on test images",
    "rank_test_gradient_gap": "Spearman over the evaluations of a run, test gradient norm against gap",
    "rank_train_gradient_gap": "Spearman over the evaluations of a run, training gradient norm against gap",
    "rank_epoch_test_gradient": "Spearman over the evaluations of a run, epoch against test gradient norm",
    "rank_epoch_train_gradient": "Spearman over the evaluations of a run, epoch against training gradient norm",
    "rank_epoch_gap": "Spearman over the evaluations of a run, epoch against gap",
    "rank_test_over_train_gradient": "Spearman with the gap, of the test gradient norm less that of the training one",
    "cells_hessian_gap": "Spearman over the cells of a setting, Hessian eigenvalue against final gap",
    "cells_gradient_over_hessian": "Spearman with the final gap over the cells, test gradient norm less Hessian",
    "jacobian_norm": "mean over test images of the spectral norm of the logits' Jacobian",
    "methods_sigma_gap": "Spearman over the methods of a setting and batch size, mean sigma against final gap",
    "methods_jacobian_gap": "Spearman over the methods of a setting and batch size, Jacobian norm against final gap",
    "methods_jacobian_over_sigma": "Spearman with the final gap over the methods, Jacobian norm less mean sigma",
}


class Measured:
    """Measures of the finished runs of some results, by seed."""

    def __init__(self, results: Results, methods: Sequence[str] = ()) -> None:
        """`methods`: those of a measure over methods; all that have a record unless given."""
        self.results, self.methods = results, methods or results.methods
        self._cache: dict[tuple[str, Place], dict[int, float]] = {}

    def values(self, measure: str, place: Place) -> Mapping[int, float]:
        """{seed: value} over the runs that completed training and have a finite value."""
        key = (measure, place)
        if key not in self._cache:
            several = {**dict.fromkeys(CELLS, self._over_cells), **dict.fromkeys(OVER_METHODS, self._over_methods)}
            self._cache[key] = several.get(measure, self._over_runs)(measure, place)
        return self._cache[key]

    def _cell(self, place: Place) -> Cell:
        assert place.method is not None
        assert place.regime is not None
        return self.results.cell(place.setting, place.method, place.regime)

    def _over_runs(self, measure: str, place: Place) -> dict[int, float]:
        values: dict[int, float] = {}
        for record in self._cell(place).finished:
            try:
                value = RUN[measure](record)
            except RecordError:
                continue
            if value is not None and math.isfinite(value):
                values[record.result.seed] = float(value)
        return values

    def _over_cells(self, measure: str, place: Place) -> dict[int, float]:
        names = {name for pair in CELLS[measure] for name in pair}
        columns = {name: [self.values(name, cell) for cell in _cells_of(place.setting)] for name in names}
        seeds = set.intersection(*(set(values) for column in columns.values() for values in column))
        sides = {
            seed: [[[v[seed] for v in columns[name]] for name in pair] for pair in CELLS[measure]] for seed in seeds
        }
        return _ranked(sides)

    def _over_methods(self, measure: str, place: Place) -> dict[int, float]:
        """Over the methods that trained to the end; of a seed with a run of each method only."""
        pairs = OVER_METHODS[measure]
        cells = self._methods_at(place)
        names = {name for pair in pairs for name in pair}
        run = set.intersection(*({r.result.seed for r in self._cell(cell).records} for cell in cells))
        sides = {}
        for seed in run:
            ended = [c for c in cells if seed in {r.result.seed for r in self._cell(c).finished}]
            if all(seed in self.values(name, cell) for cell in ended for name in names):
                sides[seed] = [[[self.values(name, c)[seed] for c in ended] for name in pair] for pair in pairs]
        return _ranked(sides)

    def _methods_at(self, place: Place) -> list[Place]:
        return [Place(place.setting, place.regime, method) for method in self.methods]

    def missing(self, measure: str, place: Place, needed: int) -> list[str]:
        """Why `place` has fewer than `needed` values, one phrase a cell; [] where it has enough."""
        if measure in OVER_METHODS and len(self.values(measure, place)) >= needed:
            return []  # although some method may have diverged
        if pairs := CELLS.get(measure) or OVER_METHODS.get(measure):
            names = dict.fromkeys(name for pair in pairs for name in pair)
            cells = _cells_of(place.setting) if measure in CELLS else self._methods_at(place)
            phrases = (self.missing(name, cell, needed) for cell in cells for name in names)
            return list(dict.fromkeys(phrase for several in phrases for phrase in several))
        cell = self._cell(place)
        count = len(self.values(measure, place))
        if count >= needed:
            return []
        if not cell.records:
            return [f"{place}: not run"]
        notes = [f"{count} of {needed} seeds"]
        if lost := len(cell.records) - len(cell.finished):
            notes.append(f"{lost} diverged or failed")
        if len(cell.finished) > count:
            notes.append(f"{len(cell.finished) - count} without {measure}")
        return [f"{place}: {', '.join(notes)}"]


def _ranked(sides: Mapping[int, list[list[list[float]]]]) -> dict[int, float]:
    """For each seed the rank correlation of its first pair of columns, minus those of the others;
    only where all of them can be computed."""
    differences: dict[int, float] = {}
    for seed, pairs in sorted(sides.items()):
        rhos = [rho for x, y in pairs if (rho := spearman(x, y).rho) is not None]
        if len(rhos) == len(pairs):
            differences[seed] = rhos[0] - sum(rhos[1:])
    return differences


def _cells_of(setting: str) -> list[Place]:
    return [Place(setting, regime, method) for regime in REGIMES for method in METHODS]


class Printed:
    """The same measures from the printed Table 1, given to seed 0."""

    def __init__(self) -> None:
        frame = paper_table()
        frame["gap"] = frame["gap_at_alpha"] = frame["generalization_gap"]  # the curves are not printed
        frame["excess_over_alpha"] = frame["test_accuracy"] - frame["alpha"]
        keys = frame[["setting", "regime", "method"]].itertuples(index=False, name=None)
        self._rows = dict(zip(keys, frame.to_dict("records"), strict=True))

    def values(self, measure: str, place: Place) -> Mapping[int, float]:
        """{0: value}, or {} where Table 1 does not print it."""
        row = self._rows.get((place.setting, place.regime, place.method), {})
        return {0: float(row[measure])} if measure in row else {}
