"""The grid as a reader thinks of it: cells of setting x method x regime, each with its runs, and the paper's numbers."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from sns.record.store import Record, read_all

PAPER_SETTINGS = ("vgg_cifar10", "nin_cifar100", "densenet40_cifar100", "densenet22_stl10")
METHODS = ("vanilla", "decay", "adversarial", "spectral")
REGIMES = ("small", "large")
TITLES = {
    "vgg_cifar10": "VGGNet, CIFAR-10",
    "nin_cifar100": "NIN, CIFAR-100",
    "densenet40_cifar100": "DenseNet-40, CIFAR-100",
    "densenet22_stl10": "DenseNet-22, STL-10",
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
class Grid:
    """All cells of a results folder, in the paper's order, then alphabetically."""

    cells: tuple[Cell, ...]
    warnings: tuple[str, ...]

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


def load(folder: Path) -> Grid:
    """Every readable record at or below `folder` as a grid; what was left out and why is in `warnings`."""
    return arrange(*read_all(folder))


def arrange(records: Iterable[Record], warnings: Iterable[str] = ()) -> Grid:
    """Records as a grid. Within a cell only runs of one variant are kept (the one with most runs), so that nothing
    computed under different options is ever averaged; the others are named in `warnings`."""
    places: dict[tuple[str, str, str], dict[str, list[Record]]] = {}
    for record in records:
        result = record.result
        place = places.setdefault((result.setting, result.method, result.regime), {})
        place.setdefault(result.variant, []).append(record)
    notes = list(warnings)
    cells = []
    for (setting, method, regime), variants in places.items():
        kept = max(variants, key=lambda name: (len(variants[name]), name))
        for name, others in variants.items():
            if name != kept:
                notes.append(
                    f"{setting} {method} {regime}: {len(others)} run(s) of variant {name} left out, "
                    f"because their options differ from the {len(variants[kept])} run(s) of variant {kept}"
                )
        cells.append(Cell(setting, method, regime, tuple(sorted(variants[kept], key=lambda r: r.result.seed))))
    return Grid(tuple(sorted(cells, key=_place)), tuple(notes))


def _place(cell: Cell) -> tuple[int, str, int, int, str]:
    known = PAPER_SETTINGS.index(cell.setting) if cell.setting in PAPER_SETTINGS else len(PAPER_SETTINGS)
    method = METHODS.index(cell.method) if cell.method in METHODS else len(METHODS)
    return known, cell.setting, REGIMES.index(cell.regime), method, cell.method


def paper_table() -> pd.DataFrame:
    """Table 1 as printed: setting, batch_size, method, test_accuracy, alpha, generalization_gap, and regime."""
    frame = pd.read_csv(PAPER / "table1.csv")
    frame["regime"] = frame["batch_size"].map({64: "small", 4096: "large"})
    return frame
