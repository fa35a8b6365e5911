"""Figure 1: training and test accuracy and their gap against the epoch, a panel for each batch
size."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sns.analysis.cells import REGIMES, Results
from sns.analysis.figures import plotted, style

NUMBER = 1
LINES = {"test_accuracy": ("test", "-"), "train_accuracy": ("train", "--"), "gap": ("gap", ":")}
TEXT = (
    "Accuracy against epoch: solid test, dashed training (evaluation mode), dotted their gap; line: mean over seeds, "
    "band: least to greatest. Alpha of the generalization gap: thin grey line."
)


def compute(grid: Results, setting: str | None = None) -> pd.DataFrame:
    """Rows `plotted.COLUMNS` for test_accuracy, train_accuracy and gap (fractions) of the main
    setting by epoch."""
    name = plotted.main_setting(grid, setting)
    return curves(grid, [name], f"Figure {NUMBER}. {TEXT}{plotted.instead(name)}")


def curves(grid: Results, settings: list[str], text: str) -> pd.DataFrame:
    """The same for several settings, with the caption in attrs; rows of quantity `alpha` hold the
    thresholds."""
    frames = [plotted.over_seeds(cell, list(LINES)) for cell in plotted.cells(grid, settings)]
    for cell in plotted.cells(grid, settings):
        alpha = cell.finished[0].result.measured.get("alpha")  # the same for all runs of a cell: they share a variant
        if alpha is not None:
            row = {**plotted.key(cell), "quantity": "alpha", "mean": alpha, "n": len(cell.finished)}
            frames.append(
                pd.DataFrame([row], columns=plotted.COLUMNS).astype({"epoch": float, "low": float, "high": float})
            )
    frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=plotted.COLUMNS)
    frame.attrs["caption"] = plotted.caption(text, grid, settings)
    frame.attrs["settings"] = plotted.shown(frame, settings)
    return frame


def draw(frame: pd.DataFrame) -> Figure:
    """The figure from `compute`'s rows: a line of panels a setting, a column a batch regime."""
    settings = frame.attrs.get("settings", list(dict.fromkeys(frame["setting"])))
    figure = style.new(8.0, 1.5 + 2.7 * len(settings))
    panels = figure.subplots(len(settings), len(REGIMES), squeeze=False, sharey="row")
    names = plotted.methods(frame)
    for line, setting in zip(panels, settings, strict=True):
        batch = plotted.sizes(frame, setting)
        for axes, regime in zip(line, REGIMES, strict=True):
            part = frame[(frame["setting"] == setting) & (frame["regime"] == regime)]
            axes.set_title(f"{plotted.title(setting)}, {batch.get(regime, regime + ' batch')}")
            if part.empty:
                axes.text(0.5, 0.5, "no finished run", transform=axes.transAxes, ha="center", color="#777777")
                axes.set_xticks([])
            else:
                _panel(axes, part, names)
        line[0].set_ylabel("accuracy, gap")
    for axes in panels[-1]:
        axes.set_xlabel("epoch")
    handles = style.method_handles(names) + style.line_handles(dict(LINES.values()))
    return style.finish(figure, handles, frame.attrs.get("caption", ""))


def _panel(axes: Axes, part: pd.DataFrame, names: list[str]) -> None:
    for (method, quantity), rows in part.groupby(["method", "quantity"], sort=False):
        colour, marker = style.look(str(method), names)
        if quantity == "alpha":
            continue
        every = (names.index(str(method)) * len(rows) // 40, max(1, len(rows) // 8))  # staggered, so that none hides
        axes.plot(
            rows["epoch"],
            rows["mean"],
            color=colour,
            ls=LINES[str(quantity)][1],
            marker=marker,
            markevery=every,
            ms=3,
        )
        if rows["n"].max() > 1:
            axes.fill_between(rows["epoch"], rows["low"], rows["high"], color=colour, alpha=0.15, lw=0)
    for alpha in set(part[part["quantity"] == "alpha"]["mean"]):
        axes.axhline(alpha, color="#999999", lw=0.7, zorder=1)
    axes.set_ylim(min(0.0, part["low"].min() - 0.02), 1.02)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
