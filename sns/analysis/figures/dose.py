"""The dose figure: how accuracy, gap, gradient norm and singular values change as every penalty is
scaled by one factor."""

import math
from collections import Counter
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from sns.analysis.cells import REGIMES, Results, methods_of, title_of
from sns.analysis.figures import plotted, style, traces
from sns.analysis.stats import summarise
from sns.common.errors import RecordError
from sns.record.store import Record

TITLE = "Dose"
OPTIONAL = True  # few experiments have runs with several factors
KEYS = [*plotted.KEYS, "scale", "e_folds"]
COLUMNS = [*KEYS, "quantity", "mean", "low", "high", "n"]
QUANTITIES = {**plotted.OUTCOMES, "sigma_mean": "mean sigma (geometric)"}
CAPTION = (
    "The last evaluation of runs of {} that differ only in a factor on lambda (1: the method's own). Line: mean over "
    "seeds; band: least to greatest. Solid: small batch; dashed: large batch. The dose is lambda * sum of learning "
    "rates / (1 - momentum), the number of factors of e by which the penalty alone would shrink what it penalises. The "
    "plotted numbers (CSV) state it as e_folds."
)


def compute(results: Results, setting: str | None = None) -> pd.DataFrame:
    """Rows COLUMNS: for each method, regime and factor the mean, least and greatest over seeds of
    QUANTITIES.

    `scale` is the factor on lambda, `e_folds` the dose of one run. Runs without a factor are left
    out. RecordError where no method of the setting ran with several factors.
    """
    name = plotted.main_setting(results, setting)
    groups: dict[tuple[Any, ...], list[Record]] = {}
    lost = 0
    for record in results.records:
        result = record.result
        if result.setting != name:
            continue
        lost += result.status != "ok"
        scale = record.config.get("method", {}).get("scale")
        if result.status == "ok" and scale is not None:
            place = (name, result.regime, result.batch_size, result.method, float(scale), result.dose["e_folds"])
            groups.setdefault(place, []).append(record)
    factors = Counter((regime, method) for regime, method, _ in {(place[1], *place[3:5]) for place in groups})
    if max(factors.values(), default=0) < 2:
        raise RecordError(f"no method of {name} ran with several method.scale: train experiment=pocket_dose")
    frame = pd.DataFrame(_rows(groups), columns=COLUMNS)
    runs = plotted.runs_shown([record for group in groups.values() for record in group], [name])
    faults = [f"Not shown: {lost} run(s) that diverged or failed."] if lost else []
    frame.attrs["caption"] = "\n".join([CAPTION.format(title_of(name)), runs, *faults])
    return frame


def _rows(groups: dict[tuple[Any, ...], list[Record]]) -> list[dict[str, Any]]:
    rows = []
    for place in sorted(groups, key=lambda key: (REGIMES.index(key[1]), key[3], key[4])):
        for quantity in QUANTITIES:
            values = [record.result.final[quantity] for record in groups[place]]
            numbers = {"mean": summarise(values).mean, "low": min(values), "high": max(values), "n": len(values)}
            rows.append({**dict(zip(KEYS, place, strict=True)), "quantity": quantity, **numbers})
    return rows


def draw(frame: pd.DataFrame) -> Figure:
    """A panel for each quantity, the factor on a logarithmic axis (0 at its left)."""
    figure = style.new(9.0, 5.6)
    names = methods_of(frame)
    grid = figure.subplots(2, math.ceil(len(QUANTITIES) / 2))
    for axes, (quantity, label) in zip(grid.flat, QUANTITIES.items(), strict=True):
        style.curves(axes, frame[frame["quantity"] == quantity], "scale", names, ms=4)
        axes.set_xscale("symlog" if frame["scale"].min() == 0 else "log")
        axes.set_title(label)
    for axes in grid[-1]:
        axes.set_xlabel("factor on lambda")
    handles = style.method_handles(names) + style.regime_handles(plotted.sizes(frame))
    return style.finish(figure, handles, frame.attrs["caption"])


def panels(frame: pd.DataFrame) -> list[traces.Panel]:
    """A panel for each quantity, the factors evenly spaced, because Plotly's logarithmic axis has
    no 0."""
    names, sizes = methods_of(frame), plotted.sizes(frame)
    xaxis = {"type": "category", "categoryorder": "array", "categoryarray": sorted(set(frame["scale"]))}
    made = []
    for quantity, label in QUANTITIES.items():
        lines = traces.curves(frame[frame["quantity"] == quantity], "scale", names, sizes)
        made.append(traces.panel(label, "factor on lambda", "", lines, xaxis=xaxis))
    return made
