"""Records grouped for analysis: `Results` holds cells of setting x method x regime with their runs.
The paper's own numbers are read here too."""

from collections.abc import Container, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from sns.analysis.options import differences
from sns.common.errors import RecordError
from sns.common.folders import project_folder
from sns.config.schema import REGIMES as REGIMES
from sns.record.store import RESULT, Record, read_all, run_directories

METHODS = ("vanilla", "decay", "adversarial", "spectral")
PAPER_TITLES = {
    "vgg_cifar10": "VGGNet, CIFAR-10",
    "nin_cifar100": "NIN, CIFAR-100",
    "densenet40_cifar100": "DenseNet-40, CIFAR-100",
    "densenet22_stl10": "DenseNet-22, STL-10",
}
PAPER_SETTINGS = tuple(PAPER_TITLES)
TITLES = {
    **PAPER_TITLES,
    "vgg_pocket": "small VGGNet, CIFAR-10 at 16x16",
    "nin_pocket": "small NIN, CIFAR-100 at 16x16",
    "densenet_pocket": "small DenseNet, CIFAR-100 at 16x16",
    "vgg_quarter": "VGGNet of a quarter of the width, CIFAR-10",
    "sngan_cifar10": "standard CNN, CIFAR-10",
    "sngan_stl10": "standard CNN, STL-10 at 48x48",
    "sngan_resnet_cifar10": "ResNet, CIFAR-10",
    "sngan_resnet_stl10": "ResNet, STL-10 at 48x48",
    "sngan_pocket": "small CNN GAN, CIFAR-10 at 16x16",
    "digits_vgg": "VGGNet, digits",
    "digits_nin": "NIN, digits",
    "digits_densenet": "DenseNet, digits",
}
PAPER = project_folder("results/paper")


@dataclass(frozen=True)
class Cell:
    """The runs of one setting, method and regime, sorted by seed."""

    setting: str
    method: str
    regime: str
    records: tuple[Record, ...]

    @property
    def finished(self) -> tuple[Record, ...]:
        """The runs that completed training, neither diverged nor failed."""
        return tuple(record for record in self.records if record.result.status == "ok")


@dataclass(frozen=True)
class Results:
    """The cells of an experiment; settings in the order of TITLES, then the others by name."""

    cells: tuple[Cell, ...]
    warnings: tuple[str, ...]
    records: tuple[Record, ...] = ()  # every usable run, including those that a cell leaves out
    unusable: tuple[str, ...] = ()  # the warnings about records that cannot be used at all

    @property
    def settings(self) -> tuple[str, ...]:
        """Settings with at least one record."""
        return tuple(dict.fromkeys(cell.setting for cell in self.cells))

    @property
    def methods(self) -> tuple[str, ...]:
        """The paper's methods, then every other one that has a record."""
        return METHODS + tuple(sorted({cell.method for cell in self.cells} - set(METHODS)))

    def cell(self, setting: str, method: str, regime: str) -> Cell:
        """The cell of these three; it has no records where nothing was run."""
        for cell in self.cells:
            if (cell.setting, cell.method, cell.regime) == (setting, method, regime):
                return cell
        return Cell(setting, method, regime, ())

    def with_seeds(self, seeds: Container[int]) -> "Results":
        """The same cells with the runs of these seeds only; cells without such a run are left
        out."""
        cells = (replace(cell, records=tuple(r for r in cell.records if r.result.seed in seeds)) for cell in self.cells)
        return replace(self, cells=tuple(cell for cell in cells if cell.records))


def title_of(setting: str) -> str:
    """The setting in words, for readers; its name where TITLES has none."""
    return TITLES.get(setting, setting)


def methods_of(frame: pd.DataFrame) -> list[str]:
    """The methods in a frame's column `method`: the paper's in its order, then the others."""
    present = list(dict.fromkeys(frame["method"]))
    return [name for name in METHODS if name in present] + [name for name in present if name not in METHODS]


def is_given(value: Any) -> bool:
    """Whether an entry of a frame holds a value, not None or NaN."""
    return bool(pd.notna(value))


def experiment_folder(folder: Path, experiment: str | None = None) -> Path:
    """The folder of one experiment's run directories: `folder`/runs/`experiment`.

    Without `experiment`, the only one under `folder`/runs. A `folder` that is itself an experiment
    folder or a run directory is returned unchanged. Raises RecordError where there is no
    experiment, or more than one to choose from.
    """
    if not folder.is_dir():
        what = "is a file" if folder.is_file() else "does not exist"
        raise RecordError(f"{folder} {what}: give the results folder that holds runs/<experiment>/<run_id>")
    runs = folder / "runs"
    if not runs.is_dir():
        depths = {len(directory.relative_to(folder).parts) for directory in run_directories(folder)}
        if experiment is None and depths & {0, 1}:
            return folder
        raise RecordError(f"{folder} holds no runs/ folder: give a results folder, or run an experiment (make demo)")
    directories = (directory for directory in run_directories(runs) if directory != runs)
    existing = sorted({directory.relative_to(runs).parts[0] for directory in directories})
    if not existing:
        raise RecordError(f"{runs} holds no runs yet: run an experiment first (make demo)")
    if experiment is None and len(existing) > 1:
        raise RecordError(f"{runs} holds several experiments, choose one with --experiment: {', '.join(existing)}")
    if experiment is not None and experiment not in existing:
        raise RecordError(f"{runs} holds no experiment {experiment}; there are: {', '.join(existing)}")
    return runs / (existing[0] if experiment is None else experiment)


def output_folder(folder: Path) -> Path:
    """Where the pages computed from the records in `folder` are written: results/EXPERIMENT.

    That is `folder` without the part named runs. A folder outside any runs/ is returned unchanged.
    Raises RecordError for an experiment name that would overwrite the paper's numbers or records.
    """
    folder = folder.absolute()
    for runs in (parent for parent in folder.parents if parent.name == "runs"):
        inside = folder.relative_to(runs)
        if inside.parts[0] in (PAPER.name, runs.name):
            raise RecordError(f"the experiment name {inside.parts[0]} is reserved: rename {folder} or give --out")
        return runs.parent / inside
    return folder


def load_results(folder: Path, task: str | None = "classification") -> Results:
    """Every usable record of `task` (None: of any) at or below `folder`; `warnings` says what was
    left out and why."""
    return arrange(*read_all(folder), task)


def load_experiment(
    folder: Path, experiment: str | None = None, task: str | None = "classification", may_be_empty: bool = False
) -> tuple[Path, Results]:
    """The folder that `experiment_folder` chooses, and its results of `task` (None: of any).
    RecordError where it holds no usable record of it, unless it `may_be_empty` or absent."""
    try:
        folder = experiment_folder(folder, experiment)
    except RecordError:
        if not may_be_empty or experiment is None or (folder.exists() and not folder.is_dir()):
            raise
        folder = folder / "runs" / experiment
    results = load_results(folder, task)
    if not results.cells and not may_be_empty:
        count = len(results.warnings)
        if count:
            raise RecordError(
                f"{folder} holds no finished run that can be shown; {count} left out, the first: {results.warnings[0]}"
            )
        raise RecordError(f"{folder} holds no finished run: run an experiment first (make demo)")
    return folder, results


def arrange(records: Iterable[Record], warnings: Iterable[str] = (), task: str | None = None) -> Results:
    """Groups the records of `task` (None: of any) into cells.

    A cell takes the runs of one variant only, the one with most runs, so that runs with different
    options are never averaged. `warnings` names the others.
    """
    by_cell: dict[tuple[str, str, str], dict[str, list[Record]]] = {}
    notes = list(warnings)
    usable = []
    for record in records:
        result = record.result
        if task not in (None, result.task):
            notes.append(f"{record.path.name} belongs to task={result.task}: left out; scripts/scores.py shows it")
            continue
        if result.regime not in REGIMES:
            notes.append(f"{record.path / RESULT} has the unknown regime {result.regime!r}: left out")
            continue
        usable.append(record)
        variants = by_cell.setdefault((result.setting, result.method, result.regime), {})
        # Two data sets are never averaged, even where an older record does not name its images.
        variants.setdefault(f"{result.variant} {record.images or ''}", []).append(record)
    cells, unusable = [], tuple(notes)
    for key, variants in by_cell.items():
        chosen = max(variants, key=lambda name: (len(variants[name]), name))
        if len(variants) > 1:
            firsts = {name: runs[0] for name, runs in variants.items()}
            words = dict(zip(firsts, differences(list(firsts.values())), strict=True))
            notes += [
                f"{' '.join(key)}: {len(others)} run(s) with {words[name]} left out, because "
                f"the {len(variants[chosen])} run(s) that are shown have {words[chosen]}"
                for name, others in variants.items()
                if name != chosen
            ]
        cells.append(Cell(*key, tuple(sorted(variants[chosen], key=lambda record: record.result.seed))))
    return Results(tuple(sorted(cells, key=_order)), tuple(notes), tuple(usable), unusable)


def by_optimizer(results: Results) -> dict[str, Results]:
    """The results of each optimizer by its name: a cell of `results` holds one variant only."""
    names = sorted({record.result.optimizer for record in results.records})
    if len(names) < 2:
        return dict.fromkeys(names, results)
    return {name: arrange([r for r in results.records if r.result.optimizer == name]) for name in names}


def _order(cell: Cell) -> tuple[int, str, int, int, str]:
    """The sort key of a cell."""
    setting = list(TITLES).index(cell.setting) if cell.setting in TITLES else len(TITLES)
    method = METHODS.index(cell.method) if cell.method in METHODS else len(METHODS)
    return setting, cell.setting, REGIMES.index(cell.regime), method, cell.method


def paper_table() -> pd.DataFrame:
    """Table 1 as printed: columns setting, batch_size, method, test_accuracy, alpha,
    generalization_gap and regime."""
    frame = pd.read_csv(PAPER / "table1.csv")
    frame["regime"] = frame["batch_size"].map({64: "small", 4096: "large"})
    return frame
