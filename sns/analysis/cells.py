"""The grid as a reader thinks of it: cells of setting x method x regime with their runs, and the
paper's numbers."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from sns.common.errors import RecordError
from sns.record.store import CONFIG, RESULT, Record, read_all

PAPER_SETTINGS = ("vgg_cifar10", "nin_cifar100", "densenet40_cifar100", "densenet22_stl10")
METHODS = ("vanilla", "decay", "adversarial", "spectral")
REGIMES = ("small", "large")
TITLES = {
    "vgg_cifar10": "VGGNet, CIFAR-10",
    "nin_cifar100": "NIN, CIFAR-100",
    "densenet40_cifar100": "DenseNet-40, CIFAR-100",
    "densenet22_stl10": "DenseNet-22, STL-10",
    "vgg_pocket": "small VGGNet, CIFAR-10 at 16x16",
    "nin_pocket": "small NIN, CIFAR-100 at 16x16",
    "densenet_pocket": "small DenseNet, CIFAR-100 at 16x16",
    "digits_vgg": "VGGNet, digits",
    "digits_nin": "NIN, digits",
    "digits_densenet": "DenseNet, digits",
}
PAPER = Path(__file__).resolve().parents[2] / "results" / "paper"


@dataclass(frozen=True)
class Cell:
    """One place of the grid and the runs that fill it, sorted by seed."""

    setting: str
    method: str
    regime: str
    records: tuple[Record, ...]

    @property
    def finished(self) -> tuple[Record, ...]:
        """The runs that trained to the end."""
        return tuple(record for record in self.records if record.result.status == "ok")


@dataclass(frozen=True)
class Results:
    """All cells of a results folder, in the order of TITLES (the paper's), then alphabetically."""

    cells: tuple[Cell, ...]
    warnings: tuple[str, ...]
    records: tuple[Record, ...] = ()  # every usable run, those of other variants too
    unusable: tuple[str, ...] = ()  # the part of `warnings` that is about records which cannot be used at all

    @property
    def settings(self) -> tuple[str, ...]:
        """Settings with at least one record."""
        return tuple(dict.fromkeys(cell.setting for cell in self.cells))

    @property
    def methods(self) -> tuple[str, ...]:
        """The paper's methods, then any other that has a record."""
        seen = {cell.method for cell in self.cells}
        return METHODS + tuple(sorted(seen - set(METHODS)))

    def cell(self, setting: str, method: str, regime: str) -> Cell:
        """The cell at this place; without runs where there are none."""
        for cell in self.cells:
            if (cell.setting, cell.method, cell.regime) == (setting, method, regime):
                return cell
        return Cell(setting, method, regime, ())


def experiment_folder(results: Path, experiment: str | None = None) -> Path:
    """The folder whose records belong together: `results`/runs/`experiment`.

    Without `experiment` it is the only one under `results`/runs; a path that is itself an
    experiment folder or a run directory is taken as it is. Raises RecordError where there is none,
    or several to choose from.
    """
    if not results.is_dir():
        raise RecordError(f"{results} does not exist: give the results folder that holds runs/<experiment>/<run_id>")
    runs = results / "runs"
    if not runs.is_dir():
        if experiment is None and _holds_runs(results):
            return results
        raise RecordError(f"{results} holds no runs/ folder: give a results folder, or train a grid first (make demo)")
    known = sorted(folder.name for folder in runs.iterdir() if folder.is_dir() and _holds_runs(folder))
    if not known:
        raise RecordError(f"{runs} holds no runs yet: train a grid first (make demo)")
    if experiment is None and len(known) > 1:
        raise RecordError(f"{runs} holds several experiments, choose one with --experiment: {', '.join(known)}")
    if experiment is not None and experiment not in known:
        raise RecordError(f"{runs} holds no experiment {experiment}; there are: {', '.join(known)}")
    return runs / (known[0] if experiment is None else experiment)


def output_folder(folder: Path) -> Path:
    """Where what is computed from the records of `folder` is written: `results`/`experiment`/.

    That is `folder` without the part named runs; a folder outside any runs/ keeps its outputs
    itself.
    """
    folder = folder.absolute()
    for runs in (parent for parent in folder.parents if parent.name == "runs"):
        inside = folder.relative_to(runs)
        if inside.parts[0] in (PAPER.name, runs.name):
            raise RecordError(f"the experiment name {inside.parts[0]} is reserved: rename {folder} or give --out")
        return runs.parent / inside
    return folder


def _holds_runs(folder: Path) -> bool:
    return any(next(folder.glob(f"{depth}{name}"), None) for depth in ("", "*/") for name in (CONFIG, RESULT))


def load(folder: Path) -> Results:
    """Every readable record at or below `folder` as a grid; what was left out and why is in
    `warnings`."""
    return arrange(*read_all(folder))


def load_experiment(results: Path, experiment: str | None = None) -> tuple[Path, Results]:
    """The folder that `experiment_folder` resolves to and its grid; RecordError where no finished
    run is left in it."""
    folder = experiment_folder(results, experiment)
    grid = load(folder)
    if not grid.cells:
        first = f"; {len(grid.warnings)} left out, the first: {grid.warnings[0]}" if grid.warnings else ""
        raise RecordError(f"{folder} holds no finished run: train a grid first (make demo){first}")
    return folder, grid


def arrange(records: Iterable[Record], warnings: Iterable[str] = ()) -> Results:
    """Records as a grid. Within a cell only runs of one variant are kept (the one with most runs),
    so that nothing computed under different options is ever averaged; the others are named in
    `warnings`."""
    places: dict[tuple[str, str, str], dict[str, list[Record]]] = {}
    notes = list(warnings)
    usable = []
    for record in records:
        result = record.result
        if (fault := _fault(record)) is not None:
            notes.append(f"{record.path / RESULT} {fault}: left out; delete the run directory and run the cell again")
            continue
        usable.append(record)
        place = places.setdefault((result.setting, result.method, result.regime), {})
        place.setdefault(result.variant, []).append(record)
    cells, unusable = [], tuple(notes)
    for (setting, method, regime), variants in places.items():
        kept = max(variants, key=lambda name: (len(variants[name]), name))
        for name, others in variants.items():
            if name != kept:
                notes.append(
                    f"{setting} {method} {regime}: {len(others)} run(s) of variant {name} left out, "
                    f"because their options differ from the {len(variants[kept])} run(s) of variant {kept}"
                )
        cells.append(Cell(setting, method, regime, tuple(sorted(variants[kept], key=lambda r: r.result.seed))))
    return Results(tuple(sorted(cells, key=_place)), tuple(notes), tuple(usable), unusable)


def _fault(record: Record) -> str | None:
    """What keeps a record that can be read from being used, or None."""
    result = record.result
    if result.regime not in REGIMES:
        return f"has the unknown regime {result.regime!r}"
    if not isinstance(result.seed, int) or not all(isinstance(x, str) for x in (result.setting, result.method)):
        return "has a setting, method or seed of the wrong type"
    if result.status == "ok":
        for name, row in (("final", result.final), ("best", result.best)):
            for key in ("test_accuracy", "train_accuracy", "gap"):
                value = row.get(key) if isinstance(row, dict) else None
                if not isinstance(value, (int, float)) or not math.isfinite(value):
                    return f"ended well but states no {name} {key}"
    return None


def _place(cell: Cell) -> tuple[int, str, int, int, str]:
    known = list(TITLES).index(cell.setting) if cell.setting in TITLES else len(TITLES)
    method = METHODS.index(cell.method) if cell.method in METHODS else len(METHODS)
    return known, cell.setting, REGIMES.index(cell.regime), method, cell.method


def paper_table() -> pd.DataFrame:
    """Table 1 as printed: setting, batch_size, method, test_accuracy, alpha, generalization_gap,
    and regime."""
    frame = pd.read_csv(PAPER / "table1.csv")
    frame["regime"] = frame["batch_size"].map({64: "small", 4096: "large"})
    return frame
