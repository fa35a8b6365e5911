"""Figure 2: input-gradient norms against the generalization gap, on training and on test data
(section 4.2)."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sns.analysis.cells import REGIMES, Cell, Results, methods_of, title_of
from sns.analysis.figures import plotted, style, traces
from sns.analysis.stats import combine_correlations, spearman

TITLE = "Input-gradient norm against gap"
SPLITS = {"train": "train_gradient_norm", "test": "test_gradient_norm"}
LAYOUT = [["train", "test", "rho"], ["train_series", "test_series", "rho"]]
CAPTION = (
    "Mean L2 norm of the input gradient of an image against the generalization gap, (a) on training, (b) on test "
    "data. A point is an evaluation, mean over seeds; the last one is larger. Solid and filled: small batch; dashed "
    "and open: large batch. The paper leaves open which axis is which; here the gap is the vertical one. Then the "
    "norms by epoch; band: least to greatest over seeds. Last, Spearman's rho of norm and gap over the evaluations of "
    "a run: mean over seeds with a 95% t interval on Fisher's scale. With one seed it is the interval of Bonett and "
    "Wright, which is too narrow because it takes the evaluations as independent."
)


def compute(results: Results, setting: str | None = None) -> pd.DataFrame:
    """The rows of `norms` for the main setting."""
    name = plotted.main_setting(results, setting)
    return norms(results, [name], plotted.instead(name))


def norms(results: Results, settings: Sequence[str], remark: str = "") -> pd.DataFrame:
    """Rows `plotted.COLUMNS`: gap and both gradient norms by epoch, and `rho_train`, `rho_test`.

    Low and high of a rho are its interval, its n counts runs. The caption ends with `remark`.
    """
    frames = []
    for cell in plotted.cells(results, settings):
        frames += [plotted.over_seeds(cell, ["gap", *SPLITS.values()]), _correlations(cell)]
    return plotted.joined(frames, CAPTION + remark, results, settings)


def _correlations(cell: Cell) -> pd.DataFrame:
    rows = []
    for split, column in SPLITS.items():
        runs = [spearman(r.history[column].tolist(), r.history["gap"].tolist()) for r in cell.finished]
        rho = combine_correlations(runs)
        numbers = {"mean": rho.rho, "low": rho.low, "high": rho.high, "n": rho.n}
        rows.append({**plotted.key(cell), "quantity": f"rho_{split}", "epoch": float("nan"), **numbers})
    return pd.DataFrame(rows, columns=plotted.COLUMNS).astype({"mean": float, "low": float, "high": float})


def draw(frame: pd.DataFrame) -> Figure:
    """For each setting two panels of points, two by epoch and one of rho."""
    settings = frame.attrs["settings"]
    figure = style.new(9.5, 1.6 + 4.4 * len(settings))
    names = methods_of(frame)
    blocks = figure.subfigures(len(settings), 1, squeeze=False)[:, 0]
    for block, setting in zip(blocks, settings, strict=True):
        block.suptitle(", ".join([title_of(setting), *plotted.sizes(frame, setting).values()]), fontsize=9)
        grid = block.subplot_mosaic(LAYOUT, width_ratios=[1, 1, 0.75])
        part = frame[frame["setting"] == setting]
        if part.empty:
            for axes in grid.values():
                style.empty(axes, "no finished run")
            continue
        for letter, (split, column) in zip("ab", SPLITS.items(), strict=True):
            _paths(grid[split], part, column, names)
            grid[split].set(title=f"({letter}) {split}", xlabel=f"{split} gradient norm", ylabel="generalization gap")
            series = grid[f"{split}_series"]
            style.curves(series, part[part["quantity"] == column], "epoch", names)
            series.set(xlabel="epoch", ylabel=f"{split} gradient norm")
            series.set_ylim(bottom=0)
            series.xaxis.set_major_locator(MaxNLocator(integer=True))
        grid["train"].sharey(grid["test"])
        _intervals(grid["rho"], part, names)
    handles = style.method_handles(names) + style.line_handles({"small batch": "-", "large batch": "--"})
    return style.finish(figure, handles, frame.attrs["caption"])


def _wide(rows: pd.DataFrame) -> pd.DataFrame:
    """The means of one cell, a row for each epoch, a column for each quantity."""
    return rows[rows["epoch"].notna()].pivot(index="epoch", columns="quantity", values="mean").sort_index()


def _paths(axes: Axes, part: pd.DataFrame, column: str, names: list[str]) -> None:
    for (method, regime), rows in part.groupby(["method", "regime"], sort=False):
        wide = _wide(rows)
        colour, marker = style.look(str(method), names)
        line = style.REGIME_LINES[str(regime)]
        axes.plot(wide[column], wide["gap"], color=colour, ls=line, lw=0.6, marker=".", ms=2, alpha=0.7)
        face = colour if regime == "small" else "white"
        axes.plot(wide[column].iloc[-1:], wide["gap"].iloc[-1:], color=colour, marker=marker, ms=6, mfc=face, zorder=4)


def _rhos(part: pd.DataFrame, names: list[str]) -> dict[str, dict[str, Any]]:
    """The rows of rho by label, in the order of splits, methods and batch sizes."""
    ends = part[part["quantity"].isin([f"rho_{split}" for split in SPLITS])]
    rows: dict[Any, Any] = {(row["quantity"], row["method"], row["regime"]): row for row in ends.to_dict("records")}
    places = product(SPLITS, names, plotted.sizes(part).items())
    keys = {f"{split}, {name}, {size}": (f"rho_{split}", name, regime) for split, name, (regime, size) in places}
    return {label: rows[key] for label, key in keys.items() if key in rows}


def _intervals(axes: Axes, part: pd.DataFrame, names: list[str]) -> None:
    rhos = _rhos(part, names)
    for y, row in enumerate(rhos.values()):
        if pd.isna(row["mean"]):
            axes.text(0, y, "none", ha="center", va="center", color="#777777", fontsize=6)
            continue
        colour, marker = style.look(row["method"], names)
        axes.plot([row["low"], row["high"]], [y, y], color=colour, ls=style.REGIME_LINES[row["regime"]])
        face = colour if row["regime"] == "small" else "white"
        axes.plot([row["mean"]], [y], color=colour, marker=marker, mfc=face, ms=5)
    axes.axvline(0, color="#999999", lw=0.8)
    axes.set_yticks(range(len(rhos)), list(rhos), fontsize=6.5)
    axes.invert_yaxis()
    axes.set(xlim=(-1.05, 1.05), xlabel="Spearman's rho of norm and gap", title="rank correlation over epochs")
    axes.grid(visible=False, axis="y")


def panels(frame: pd.DataFrame) -> list[traces.Panel]:
    """For each setting the norm against the gap on both splits, both norms by epoch, and rho."""
    names, made = methods_of(frame), []
    for setting, part in frame.groupby("setting", sort=False):
        sizes, title = plotted.sizes(part), title_of(str(setting))
        paths, series = [], []
        for letter, (split, column) in zip("ab", SPLITS.items(), strict=True):
            norm = f"{split} gradient norm"
            against = [_trace(rows, column, names, sizes) for _, rows in part.groupby(["method", "regime"], sort=False)]
            heading = f"{title} ({letter}) {split}"
            paths.append(traces.panel(heading, norm, "generalization gap", against, hovermode="closest"))
            lines = traces.curves(part[part["quantity"] == column], "epoch", names, sizes)
            series.append(traces.panel(f"{title}, {split} by epoch", "epoch", norm, lines))
        made += [*paths, *series, _correlation_panel(part, names, title)]
    return made


def _trace(rows: pd.DataFrame, column: str, names: list[str], sizes: dict[str, str]) -> traces.Trace:
    method, regime = str(rows["method"].iloc[0]), str(rows["regime"].iloc[0])
    wide = _wide(rows)
    wide = wide.iloc[traces.thin(len(wide))]
    chosen, dash = traces.look(method, names), traces.DASHES[style.REGIME_LINES[regime]]
    diameters = [3] * (len(wide) - 1) + [9]  # the last evaluation is larger
    line = {"color": chosen["colour"], "dash": dash, "width": 0.8}
    symbol = chosen["symbol"] + ("" if regime == REGIMES[0] else "-open")
    marker = {"color": chosen["colour"], "symbol": symbol, "size": diameters}
    looks = {"mode": "lines+markers", "line": line, "marker": marker, "meta": method}
    points = {"x": traces.short(wide[column]), "y": traces.short(wide["gap"])}
    texts = {"name": f"{method}, {sizes[regime]}", "text": [f"epoch {epoch:g}" for epoch in wide.index]}
    return {**points, **looks, **texts}


def _correlation_panel(part: pd.DataFrame, names: list[str], title: str) -> traces.Panel:
    points = [
        {**traces.interval("x", row, names), "y": [label], "name": f"{row['n']} run(s)"}
        for label, row in _rhos(part, names).items()
        if pd.notna(row["mean"])
    ]
    layout: dict[str, Any] = {"hovermode": "closest", "height": 420, "shapes": [traces.rule("x", 0)]}
    layout["xaxis"] = {"range": [-1.05, 1.05]}
    layout["yaxis"] = {"autorange": "reversed", "type": "category", "automargin": True}
    return traces.panel(f"{title}, rank correlation with the gap", "Spearman's rho", "", points, **layout)
