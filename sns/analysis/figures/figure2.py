"""Figure 2: input-gradient norms against the generalization gap, on training and on test data
(section 4.2)."""

from typing import cast

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sns.analysis.cells import REGIMES, Cell, Results
from sns.analysis.figures import plotted, style
from sns.analysis.stats import combine_correlations, spearman

NUMBER = 2
PARTS = {"train": "train_gradient_norm", "test": "test_gradient_norm"}
LAYOUT = [["train", "test", "rho"], ["train_series", "test_series", "rho"]]
TEXT = (
    "Mean L2 norm of the per-image input gradient against the generalization gap, (a) on training, (b) on test data: a "
    "point an epoch, mean over seeds, the last one enlarged; solid small batch, dashed large. The paper's text leaves "
    "the orientation open; here the gap is the vertical axis. Below: the norms by epoch, band from least to greatest "
    "over seeds. Right: Spearman's rho of norm and gap over the epochs of a run; mean over seeds with a 95% t interval "
    "on Fisher's scale; for one seed the interval of Bonett and Wright, too narrow because epochs are not independent."
)


def compute(grid: Results, setting: str | None = None) -> pd.DataFrame:
    """Rows `plotted.COLUMNS` of the main setting: gap and both gradient norms by epoch, and
    `rho_train`, `rho_test`, whose low and high are the interval and whose n counts runs."""
    name = plotted.main_setting(grid, setting)
    return points(grid, [name], f"Figure {NUMBER}. {TEXT}{plotted.instead(name)}")


def points(grid: Results, settings: list[str], text: str) -> pd.DataFrame:
    """The same for several settings, with the caption in attrs."""
    frames = []
    for cell in plotted.cells(grid, settings):
        frames += [plotted.over_seeds(cell, ["gap", *PARTS.values()]), _correlations(cell)]
    frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=plotted.COLUMNS)
    frame.attrs["caption"] = plotted.caption(text, grid, settings)
    frame.attrs["settings"] = plotted.shown(frame, settings)
    return frame


def _correlations(cell: Cell) -> pd.DataFrame:
    rows = []
    for part, column in PARTS.items():
        runs = [spearman(r.history[column].tolist(), r.history["gap"].tolist()) for r in cell.finished]
        rho = combine_correlations(runs)
        numbers = {"mean": rho.rho, "low": rho.low, "high": rho.high, "n": rho.n}
        rows.append({**plotted.key(cell), "quantity": f"rho_{part}", "epoch": float("nan"), **numbers})
    return pd.DataFrame(rows, columns=plotted.COLUMNS).astype({"mean": float, "low": float, "high": float})


def draw(frame: pd.DataFrame) -> Figure:
    """The figure from `compute`'s rows: for each setting two panels of points, two of time series
    and one of rho."""
    settings = frame.attrs.get("settings", list(dict.fromkeys(frame["setting"])))
    figure = style.new(9.5, 1.6 + 4.4 * len(settings))
    names = plotted.methods(frame)
    blocks = figure.subfigures(len(settings), 1, squeeze=False)[:, 0]
    for block, setting in zip(blocks, settings, strict=True):
        batch = plotted.sizes(frame, setting)
        block.suptitle(", ".join([plotted.title(setting), *batch.values()]), fontsize=9)
        panels = block.subplot_mosaic(LAYOUT, width_ratios=[1, 1, 0.75])
        part = frame[frame["setting"] == setting]
        if part.empty:
            for axes in panels.values():
                style.empty(axes, "no finished run")
            continue
        for letter, (name, column) in zip("ab", PARTS.items(), strict=True):
            _scatter(panels[name], part, column, names)
            panels[name].set(title=f"({letter}) {name}", xlabel=f"{name} gradient norm", ylabel="generalization gap")
            _series(panels[f"{name}_series"], part, column, names)
            panels[f"{name}_series"].set(xlabel="epoch", ylabel=f"{name} gradient norm")
        panels["train"].sharey(panels["test"])
        _rho(panels["rho"], part, names)
    handles = style.method_handles(names) + style.line_handles({"small batch": "-", "large batch": "--"})
    return style.finish(figure, handles, frame.attrs.get("caption", ""))


def _scatter(axes: Axes, part: pd.DataFrame, column: str, names: list[str]) -> None:
    for (method, regime), rows in part.groupby(["method", "regime"], sort=False):
        wide = rows[rows["epoch"].notna()].pivot(index="epoch", columns="quantity", values="mean").sort_index()
        colour, marker = style.look(str(method), names)
        line = style.REGIME_LINES[str(regime)]
        axes.plot(wide[column], wide["gap"], color=colour, ls=line, lw=0.6, marker=".", ms=2, alpha=0.7)
        face = colour if regime == "small" else "white"
        axes.plot(wide[column].iloc[-1:], wide["gap"].iloc[-1:], color=colour, marker=marker, ms=6, mfc=face, zorder=4)


def _series(axes: Axes, part: pd.DataFrame, column: str, names: list[str]) -> None:
    for (method, regime), rows in part[part["quantity"] == column].groupby(["method", "regime"], sort=False):
        colour, marker = style.look(str(method), names)
        every = (names.index(str(method)) * len(rows) // 40, max(1, len(rows) // 8))
        line = style.REGIME_LINES[str(regime)]
        axes.plot(rows["epoch"], rows["mean"], color=colour, ls=line, marker=marker, markevery=every, ms=3)
        if rows["n"].max() > 1:
            axes.fill_between(rows["epoch"], rows["low"], rows["high"], color=colour, alpha=0.15, lw=0)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _rho(axes: Axes, part: pd.DataFrame, names: list[str]) -> None:
    """A line for each method x regime x part: rho and its interval."""
    batch = plotted.sizes(part, str(part["setting"].iloc[0]))
    labels: list[tuple[int, str]] = []
    for name in PARTS:
        for method in names:
            for regime in (regime for regime in REGIMES if regime in batch):
                chosen = (part["method"] == method) & (part["regime"] == regime) & (part["quantity"] == f"rho_{name}")
                y = -len(labels) - (1 if name == "test" else 0)
                labels.append((y, f"{name} {method} {batch[regime].removeprefix('B=')}"))
                if part[chosen].empty or pd.isna(part[chosen]["mean"].iloc[0]):
                    axes.text(0, y, "none", ha="center", va="center", color="#777777", fontsize=6)
                    continue
                row = part[chosen].iloc[0]
                low, high, rho = (cast(float, row[k]) for k in ("low", "high", "mean"))
                colour, marker = style.look(method, names)
                axes.plot([low, high], [y, y], color=colour, ls=style.REGIME_LINES[regime])
                axes.plot([rho], [y], color=colour, marker=marker, mfc=colour if regime == "small" else "white", ms=5)
    axes.axvline(0, color="#999999", lw=0.8)
    axes.set_yticks([y for y, _ in labels], [label for _, label in labels], fontsize=6.5)
    axes.set(xlim=(-1.05, 1.05), xlabel="Spearman's rho of norm and gap", title="rank correlation over epochs")
    axes.grid(visible=False, axis="y")
