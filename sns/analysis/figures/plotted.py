"""What the figures share: from cells to plotted numbers, and captions that name the runs and what
is missing."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pandas as pd

from sns.analysis.cells import METHODS, REGIMES, TITLES, Cell, Results
from sns.common.errors import RecordError
from sns.record.store import Record

MAIN_SETTING = "densenet40_cifar100"  # of the paper's Figures 1 to 4
KEYS = ["setting", "regime", "batch_size", "method"]
COLUMNS = [*KEYS, "quantity", "epoch", "mean", "low", "high", "n"]
OUTCOMES = {  # of a run's last evaluation: what studies compare
    "test_accuracy": "test accuracy",
    "train_accuracy": "training accuracy",
    "gap": "gap",
    "test_gradient_norm": "test gradient norm",
    "sigma_max": "largest sigma",
}


def main_setting(grid: Results, setting: str | None = None) -> str:
    """The setting of Figures 1 to 4: the asked one, else the paper's, else a DenseNet, else the
    first with records.

    Raises RecordError where the asked one has no record.
    """
    if setting is not None:
        if setting not in grid.settings:
            raise RecordError(f"there is no record of {setting}; settings with records: {', '.join(grid.settings)}")
        return setting
    if MAIN_SETTING in grid.settings:
        return MAIN_SETTING
    return next((name for name in grid.settings if "densenet" in name), grid.settings[0])


def other_settings(grid: Results, setting: str | None = None) -> list[str]:
    """The settings of Figures 5 and 6: all but the main one. RecordError where there is no
    other."""
    main = main_setting(grid, setting)
    others = [name for name in grid.settings if name != main]
    if not others:
        raise RecordError(f"this figure shows the settings other than {main}, and there is no record of another")
    return others


def title(setting: str) -> str:
    """The setting as a reader knows it."""
    return TITLES.get(setting, setting)


def cells(grid: Results, settings: Sequence[str]) -> list[Cell]:
    """The cells of these settings with at least one run that ended well."""
    return [cell for cell in grid.cells if cell.setting in settings and cell.finished]


def instead(setting: str) -> str:
    """The sentence that Figures 1 to 4 need where they show another setting than the paper's."""
    return "" if setting == MAIN_SETTING else f" The paper shows {title(MAIN_SETTING)} here."


def shown(frame: pd.DataFrame, settings: Sequence[str]) -> list[str]:
    """Those of `settings` that have something to plot; all of them where none has, so that a panel
    can say so."""
    return [name for name in settings if (frame["setting"] == name).any()] or list(settings)


def key(cell: Cell) -> dict[str, Any]:
    """The columns KEYS of a cell with runs."""
    values = (cell.setting, cell.regime, cell.records[0].result.batch_size, cell.method)
    return dict(zip(KEYS, values, strict=True))


def over_seeds(cell: Cell, quantities: Sequence[str]) -> pd.DataFrame:
    """Rows COLUMNS of a cell: for each history column in `quantities` and each epoch the mean,
    least and greatest over the runs that have it, and their number `n`."""
    tables = [record.history[["epoch", *quantities]] for record in cell.finished]
    long = pd.concat(tables).melt("epoch", var_name="quantity")
    groups = long.groupby(["quantity", "epoch"])["value"]
    frame = groups.agg(mean="mean", low="min", high="max", n="count").reset_index()
    return frame.assign(**key(cell))[COLUMNS]


def readable(cell: Cell, table: Callable[[Record], pd.DataFrame | None]) -> tuple[list[pd.DataFrame], list[str]]:
    """A table of each run that ended well and has it, and one sentence for each that cannot be
    read."""
    found, faults = [], []
    for record in cell.finished:
        try:
            frame = table(record)
        except RecordError as error:
            faults.append(str(error))
            continue
        if frame is not None and len(frame):
            found.append(frame)
    return found, faults


def sizes(frame: pd.DataFrame, setting: str) -> dict[str, str]:
    """{regime: "B=64"} of a setting, the regimes that were plotted."""
    part = frame[frame["setting"] == setting]
    found = {str(name): sorted(set(rows["batch_size"])) for name, rows in part.groupby("regime", sort=False)}
    return {name: "B=" + "/".join(map(str, found[name])) for name in REGIMES if name in found}


def methods(frame: pd.DataFrame) -> list[str]:
    """The methods that were plotted, in the paper's order, then the others."""
    seen = list(dict.fromkeys(frame["method"]))
    return [name for name in METHODS if name in seen] + [name for name in seen if name not in METHODS]


def caption(text: str, grid: Results, settings: Sequence[str], faults: Iterable[str] = ()) -> str:
    """`text`, then the runs by name, what is missing, and what could not be read."""
    lines = [text]
    shown = [cell for cell in grid.cells if cell.setting in settings]
    results = [record.result for cell in shown for record in cell.finished]
    counts = sorted({len(cell.finished) for cell in shown if cell.finished})
    span = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}" if counts else "0"
    count = f"{len(results)} {'run' if len(results) == 1 else 'runs'}"
    runs = (
        f"Runs: experiment {_join(r.experiment for r in results)}; {_join(settings)}; {count}, "
        f"{span} a cell, seeds {_join(sorted({r.seed for r in results}))}, {_join(f'{r.epochs:g}' for r in results)} "
        f"epochs; commit {_join(_commit(r.environment) for r in results)}; "
        f"{_join(r.environment.get('device') for r in results)}."
    )
    lines += [runs if results else "Runs: none that ended well.", *missing(grid, settings)]
    return "\n".join([*lines, *(f"Left out: {fault}" for fault in faults)])


def missing(grid: Results, settings: Sequence[str]) -> list[str]:
    """`Not run: ...` and `Diverged: ...`, each where there is something to say."""
    absent, lost = [], []
    for setting in settings:
        for regime in REGIMES:
            row = [grid.cell(setting, method, regime) for method in grid.methods]
            without = [cell.method for cell in row if not cell.records]
            if without:
                absent.append(f"{setting} {regime} ({'all' if len(without) == len(row) else ', '.join(without)})")
            for cell in row:
                for status in ("diverged", "failed"):
                    seeds = [str(r.result.seed) for r in cell.records if r.result.status == status]
                    if seeds:
                        lost.append(f"{setting} {regime} {cell.method} ({status}, seed {', '.join(seeds)})")
    lines = []
    if absent:
        lines.append(f"Not run: {', '.join(absent)}.")
    if lost:
        lines.append(f"Not shown: {', '.join(lost)}.")
    return lines


def _commit(environment: dict[str, object]) -> str:
    commit = environment.get("commit")
    return "unknown" if commit is None else str(commit)[:7] + (" with changes" if environment.get("dirty") else "")


def _join(values: Iterable[object]) -> str:
    known = list(dict.fromkeys("unknown" if value is None else str(value) for value in values))
    return ", ".join(known) if known else "none"
