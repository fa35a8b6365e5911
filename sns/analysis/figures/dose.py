"""The dose figure: how accuracy, gap, gradient norm and singular values move as every penalty is
scaled alike."""

import math
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sns.analysis.cells import REGIMES, Results
from sns.analysis.figures import plotted, style
from sns.analysis.stats import summarise
from sns.common.errors import RecordError
from sns.record.store import Record

NUMBER = "dose"
KEYS = [*plotted.KEYS, "scale", "e_folds"]
COLUMNS = [*KEYS, "quantity", "mean", "low", "high", "n"]
QUANTITIES = {**plotted.OUTCOMES, "sigma_mean": "mean sigma (geometric)"}
TEXT = (
    "the last evaluation of runs that differ only in a factor on lambda (decay 1e-4, spectral 0.01): line: mean "
    "over seeds, band: least to greatest; solid small batch, dashed large. The dose, lambda * sum of learning rates / "
    "(1 - momentum), is the e-folds by which the penalty alone would shrink what it penalises; its values are in the "
    "plotted numbers."
)


def compute(grid: Results, setting: str | None = None) -> pd.DataFrame:
    """Rows COLUMNS: for each method, regime and factor the mean, least and greatest over seeds of
    QUANTITIES.

    `scale` is the factor on lambda, `e_folds` the dose of one run. Runs without a factor are left
    out. RecordError where the setting ran at no more than one factor.
    """
    name = plotted.main_setting(grid, setting)
    doses: dict[tuple[Any, ...], list[Record]] = {}
    for record in grid.records:
        result = record.result
        scale = record.config.get("method", {}).get("scale")
        if result.setting == name and result.status == "ok" and scale is not None:
            place = (name, result.regime, result.batch_size, result.method, float(scale), result.dose["e_folds"])
            doses.setdefault(place, []).append(record)
    if len({place[4] for place in doses}) < 2:
        raise RecordError(f"no method of {name} ran with several method.scale: train experiment=pocket_dose")
    frame = pd.DataFrame(_rows(doses), columns=COLUMNS)
    frame.attrs["caption"] = _caption(grid, name, [record for found in doses.values() for record in found])
    return frame


def _rows(doses: dict[tuple[Any, ...], list[Record]]) -> list[dict[str, Any]]:
    rows = []
    for place in sorted(doses, key=lambda key: (REGIMES.index(key[1]), key[3], key[4])):
        for quantity in QUANTITIES:
            values = [record.result.final[quantity] for record in doses[place]]
            spread = {"low": min(values), "high": max(values), "n": len(values)}
            rows.append(
                {**dict(zip(KEYS, place, strict=True)), "quantity": quantity, "mean": summarise(values).mean, **spread}
            )
    return rows


def _caption(grid: Results, setting: str, records: list[Record]) -> str:
    results = [record.result for record in records]
    lost = sum(record.result.status != "ok" for record in grid.records if record.result.setting == setting)
    devices = sorted({str(result.environment.get("device")) for result in results})
    commits = sorted({str(result.environment.get("commit"))[:7] for result in results})
    seeds = ", ".join(str(seed) for seed in sorted({result.seed for result in results}))
    lines = [
        f"Dose, {plotted.title(setting)}: {TEXT}",
        f"Runs: experiment {results[0].experiment}; {setting}; {len(results)} runs, seeds {seeds}, "
        f"{results[0].epochs:g} epochs; commit {', '.join(commits)}; {', '.join(devices)}.",
    ]
    return "\n".join([*lines, f"Not shown: {lost} run(s) that did not end well."] if lost else lines)


def draw(frame: pd.DataFrame) -> Figure:
    """The figure from `compute`'s rows: a panel a quantity, the factor on a logarithmic axis (0 at
    its left)."""
    figure = style.new(9.0, 5.6)
    names = plotted.methods(frame)
    setting = str(frame["setting"].iloc[0])
    batch = plotted.sizes(frame, setting)
    panels = figure.subplots(2, math.ceil(len(QUANTITIES) / 2))
    for axes, (quantity, label) in zip(panels.flat, QUANTITIES.items(), strict=True):
        _panel(axes, frame[frame["quantity"] == quantity], names)
        axes.set_title(label)
    for axes in panels[-1]:
        axes.set_xlabel("factor on lambda")
    lines = {batch[regime]: style.REGIME_LINES[regime] for regime in batch}
    return style.finish(figure, style.method_handles(names) + style.line_handles(lines), frame.attrs.get("caption", ""))


def _panel(axes: Axes, part: pd.DataFrame, names: list[str]) -> None:
    for (method, regime), rows in part.groupby(["method", "regime"], sort=False):
        colour, marker = style.look(str(method), names)
        face = colour if regime == "small" else "white"
        line = style.REGIME_LINES[str(regime)]
        axes.plot(rows["scale"], rows["mean"], color=colour, ls=line, marker=marker, ms=4, mfc=face)
        if rows["n"].max() > 1:
            axes.fill_between(rows["scale"], rows["low"], rows["high"], color=colour, alpha=0.15, lw=0)
    axes.set_xscale("symlog" if part["scale"].min() == 0 else "log")
