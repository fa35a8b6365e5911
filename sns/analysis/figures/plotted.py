"""What the figures share: from cells to plotted numbers, and captions that name the runs and what
is missing."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sns.analysis.cells import REGIMES, Cell, Results, title_of
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


def main_setting(results: Results, setting: str | None = None) -> str:
    """The setting of Figures 1 to 4: `setting`, else the paper's, else a DenseNet, else the first
    with records.

    Raises RecordError where `setting` has no record.
    """
    if setting is not None:
        if setting not in results.settings:
            raise RecordError(f"there is no record of {setting}; settings with records: {', '.join(results.settings)}")
        return setting
    if MAIN_SETTING in results.settings:
        return MAIN_SETTING
    return next((name for name in results.settings if "densenet" in name), results.settings[0])


def other_settings(results: Results, setting: str | None = None) -> list[str]:
    """All settings but the main one, for Figures 5 and 6; RecordError where there is none."""
    main = main_setting(results, setting)
    others = [name for name in results.settings if name != main]
    if not others:
        raise RecordError(f"this figure shows the settings other than {main}, and there is no record of another")
    return others


def cells(results: Results, settings: Sequence[str]) -> list[Cell]:
    """The cells of these settings with at least one run that trained to the end."""
    return [cell for cell in results.cells if cell.setting in settings and cell.finished]


def instead(setting: str) -> str:
    """The sentence that Figures 1 to 4 need where they show another setting than the paper's."""
    return "" if setting == MAIN_SETTING else f" The paper shows {title_of(MAIN_SETTING)} here."


def key(cell: Cell) -> dict[str, Any]:
    """The columns KEYS of a cell with runs."""
    values = (cell.setting, cell.regime, cell.records[0].result.batch_size, cell.method)
    return dict(zip(KEYS, values, strict=True))


def over_seeds(cell: Cell, quantities: Sequence[str]) -> pd.DataFrame:
    """Rows COLUMNS of a cell: for each history column in `quantities` and each epoch the mean,
    least and greatest over the runs that have it, and their number `n`."""
    histories, names = [record.history for record in cell.finished], sorted(quantities)
    epochs = np.unique(np.concatenate([history["epoch"].to_numpy(float) for history in histories]))
    values = np.full((len(histories), len(names), len(epochs)), np.nan)
    for run, history in zip(values, histories, strict=True):
        run[:, np.searchsorted(epochs, history["epoch"].to_numpy(float))] = history[names].to_numpy(float).T
    counts = (~np.isnan(values)).sum(axis=0)
    columns = {
        "quantity": np.repeat(names, len(epochs)),
        "epoch": np.tile(epochs, len(names)),
        "mean": (_sum(values) / np.where(counts, counts, np.nan)).ravel(),
        "low": np.fmin.reduce(values).ravel(),
        "high": np.fmax.reduce(values).ravel(),
        "n": counts.ravel(),
    }
    return pd.DataFrame(columns).assign(**key(cell))[COLUMNS]


def _sum(values: np.ndarray) -> np.ndarray:
    """The sum over the first dimension of what is not NaN, with Kahan's compensation: the last bit
    too is that of a mean by pandas, which wrote the committed numbers."""
    total, lost = np.zeros(values.shape[1:]), np.zeros(values.shape[1:])
    with np.errstate(invalid="ignore"):  # of an infinite value nothing is lost
        for each in np.where(np.isnan(values), 0.0, values):
            change = each - lost
            grown = total + change
            lost, total = np.nan_to_num((grown - total) - change), grown
    return total


def joined(frames: list[pd.DataFrame], text: str, results: Results, settings: Sequence[str]) -> pd.DataFrame:
    """`frames` of rows COLUMNS as one. In attrs the caption, and those of `settings` with something
    to plot; all of them where none has, so that a panel can say so."""
    frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=COLUMNS)
    frame.attrs["caption"] = caption(text, results, settings)
    frame.attrs["settings"] = [name for name in settings if (frame["setting"] == name).any()] or list(settings)
    return frame


def sizes(frame: pd.DataFrame, setting: str | None = None) -> dict[str, str]:
    """{regime: "B=64"} of the regimes that were plotted, of one setting or of all."""
    part = frame if setting is None else frame[frame["setting"] == setting]
    batches = {str(name): sorted(set(rows["batch_size"])) for name, rows in part.groupby("regime", sort=False)}
    return {name: "B=" + "/".join(map(str, batches[name])) for name in REGIMES if name in batches}


def caption(text: str, results: Results, settings: Sequence[str], faults: Iterable[str] = ()) -> str:
    """`text`, then the runs by name, what is missing, and what could not be read."""
    cells = [cell for cell in results.cells if cell.setting in settings]
    counts = sorted({len(cell.finished) for cell in cells if cell.finished})
    records = [record for cell in cells for record in cell.finished]
    runs = runs_shown(records, settings, counts)
    return "\n".join([text, runs, *missing(results, settings), *(f"Left out: {fault}" for fault in faults)])


def runs_shown(records: Sequence[Record], settings: Sequence[str], counts: Sequence[int] = ()) -> str:
    """The line of a caption that names its runs; `counts` are the numbers of runs in a cell."""
    results = [record.result for record in records]
    if not results:
        return "Runs: none that trained to the end."
    span = f", {'-'.join(str(n) for n in (counts[0], *counts[1:][-1:]))} a cell" if counts else ""
    return (
        f"Runs: experiment {_join(r.experiment for r in results)}; {_join(settings)}; "
        f"{len(results)} {'run' if len(results) == 1 else 'runs'}{span}, "
        f"seeds {_join(sorted({r.seed for r in results}))}; {_either({r.epochs for r in results})} epochs; "
        f"commit {_join(_commit(r.environment) for r in results)}; "
        f"{_join(r.environment.get('device') for r in results)}."
    )


def missing(results: Results, settings: Sequence[str]) -> list[str]:
    """`Not run: ...` and `Not shown: ...`, each where there is something to say."""
    absent, lost = [], []
    for setting in settings:
        for regime in REGIMES:
            row = [results.cell(setting, method, regime) for method in results.methods]
            without = [cell.method for cell in row if not cell.records]
            if without:
                absent.append(f"{setting} {regime} ({'all' if len(without) == len(row) else ', '.join(without)})")
            for cell in row:
                for status in ("diverged", "failed"):
                    seeds = [str(r.result.seed) for r in cell.records if r.result.status == status]
                    if seeds:
                        lost.append(f"{setting} {regime} {cell.method} ({status}, seed {', '.join(seeds)})")
    return [f"{name}: {', '.join(entries)}." for name, entries in (("Not run", absent), ("Not shown", lost)) if entries]


def _commit(environment: dict[str, object]) -> str:
    commit = environment.get("commit")
    return "unknown" if commit is None else str(commit)[:7] + (" with changes" if environment.get("dirty") else "")


def _either(values: Iterable[float]) -> str:
    """`16, 40 or 64`."""
    return " or ".join(", ".join(f"{value:g}" for value in sorted(values)).rsplit(", ", 1))


def _join(values: Iterable[object]) -> str:
    return ", ".join(dict.fromkeys("unknown" if value is None else str(value) for value in values)) or "none"
