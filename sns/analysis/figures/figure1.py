"""Figure 1: training and test accuracy and their gap by epoch, a panel for each batch size."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sns.analysis.cells import REGIMES, Results, methods_of, title_of
from sns.analysis.figures import plotted, style, traces

TITLE = "Accuracy and generalization gap"
LINES = {"test_accuracy": ("test", "-"), "train_accuracy": ("train", "--"), "gap": ("gap", ":")}
CAPTION = (
    "Accuracy by epoch. Solid: test; dashed: training (evaluation mode); dotted: their gap. Line: mean over seeds; "
    "band: least to greatest. Thin straight line: alpha of the generalization gap."
)


def compute(results: Results, setting: str | None = None) -> pd.DataFrame:
    """The rows of `curves` for the main setting."""
    name = plotted.main_setting(results, setting)
    return curves(results, [name], plotted.instead(name))


def curves(results: Results, settings: Sequence[str], remark: str = "") -> pd.DataFrame:
    """Rows `plotted.COLUMNS`: test_accuracy, train_accuracy and gap (fractions) by epoch.

    Rows of quantity `alpha` hold the thresholds. The caption ends with `remark`.
    """
    cells = plotted.cells(results, settings)
    frames = [plotted.over_seeds(cell, list(LINES)) for cell in cells]
    for cell in cells:
        alpha = cell.finished[0].result.measured.get("alpha")  # the same for all runs of a cell: they share a variant
        if alpha is not None:
            row = {**plotted.key(cell), "quantity": "alpha", "mean": alpha, "n": len(cell.finished)}
            numbers = {"epoch": float, "low": float, "high": float}
            frames.append(pd.DataFrame([row], columns=plotted.COLUMNS).astype(numbers))
    return plotted.joined(frames, CAPTION + remark, results, settings)


def draw(frame: pd.DataFrame) -> Figure:
    """A line of panels for each setting, a column for each batch size."""
    settings = frame.attrs["settings"]
    figure = style.new(8.0, 1.5 + 2.7 * len(settings))
    grid = figure.subplots(len(settings), len(REGIMES), squeeze=False, sharey="row")
    names = methods_of(frame)
    for line, setting in zip(grid, settings, strict=True):
        batch = plotted.sizes(frame, setting)
        for axes, regime in zip(line, REGIMES, strict=True):
            part = frame[(frame["setting"] == setting) & (frame["regime"] == regime)]
            axes.set_title(f"{title_of(setting)}, {batch.get(regime, regime + ' batch')}")
            if part.empty:
                style.empty(axes, "no finished run")
            else:
                _panel(axes, part, names)
        line[0].set_ylabel("accuracy, gap")
    for axes in grid[-1]:
        axes.set_xlabel("epoch")
    handles = style.method_handles(names) + style.line_handles(dict(LINES.values()))
    return style.finish(figure, handles, frame.attrs["caption"])


def _panel(axes: Axes, part: pd.DataFrame, names: list[str]) -> None:
    for (_, quantity), rows in part[part["quantity"] != "alpha"].groupby(["method", "quantity"], sort=False):
        style.curve(axes, rows, "epoch", names, LINES[str(quantity)][1])
    for alpha in _alphas(part):
        axes.axhline(alpha, color="#999999", lw=0.7, zorder=1)
    axes.set_ylim(min(0.0, part["low"].min() - 0.02), 1.02)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def panels(frame: pd.DataFrame) -> list[traces.Panel]:
    """A panel for each setting and batch size."""
    names, made = methods_of(frame), []
    for (setting, _), part in frame.groupby(["setting", "regime"], sort=False):
        lines = []
        for (method, quantity), rows in part[part["quantity"] != "alpha"].groupby(["method", "quantity"], sort=False):
            label, line = LINES[str(quantity)]
            lines += traces.curve(rows, "epoch", names, f"{method}, {label}", line)
        (size,) = plotted.sizes(part).values()
        shapes = [traces.rule("y", alpha) for alpha in _alphas(part)]
        heading = f"{title_of(str(setting))}, {size}"
        made.append(traces.panel(heading, "epoch", "accuracy, gap", lines, shapes=shapes))
    return made


def _alphas(part: pd.DataFrame) -> list[float]:
    return sorted(set(part[part["quantity"] == "alpha"]["mean"]))
