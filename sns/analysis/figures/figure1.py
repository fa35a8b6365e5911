"""Figure 1: training and test accuracy and their gap by epoch, a panel for each batch size."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sns.analysis.cells import REGIMES, Cell, Results, methods_of, title_of
from sns.analysis.figures import plotted, style, traces
from sns.record.schema import RECALIBRATED

TITLE = "Accuracy and generalization gap"
LINES = {"test_accuracy": ("test", "-"), "train_accuracy": ("train", "--"), "gap": ("gap", ":")}
ALL = {**LINES, RECALIBRATED.name: ("test, recalibrated", "-.")}
APART = 0.01  # the recalibrated accuracy is shown where it is further from the plain one
CAPTION = (
    "Accuracy by epoch. Solid: test; dashed: training (evaluation mode); dotted: their gap. Line: mean over seeds; "
    "band: least to greatest. Thin straight line: alpha of the generalization gap."
)
ANEW = " Dash-dotted: test accuracy with batch-norm statistics taken anew without dropout (docs/reproduction.md)."


def compute(results: Results, setting: str | None = None) -> pd.DataFrame:
    """The rows of `curves` for the main setting."""
    name = plotted.main_setting(results, setting)
    return curves(results, [name], plotted.instead(name))


def curves(results: Results, settings: Sequence[str], remark: str = "") -> pd.DataFrame:
    """Rows `plotted.COLUMNS`: test_accuracy, train_accuracy and gap (fractions) by epoch.

    Rows of quantity `alpha` hold the thresholds. The caption ends with `remark`.
    """
    cells = plotted.cells(results, settings)
    frames = [_of_cell(cell) for cell in cells]
    text = CAPTION + (ANEW if any((frame["quantity"] == RECALIBRATED.name).any() for frame in frames) else "")
    for cell in cells:
        alpha = cell.finished[0].result.measured.get("alpha")  # the same for all runs of a cell: they share a variant
        if alpha is not None:
            row = {**plotted.key(cell), "quantity": "alpha", "mean": alpha, "n": len(cell.finished)}
            numbers = {"epoch": float, "low": float, "high": float}
            frames.append(pd.DataFrame([row], columns=plotted.COLUMNS).astype(numbers))
    return plotted.joined(frames, text + remark, results, settings)


def _of_cell(cell: Cell) -> pd.DataFrame:
    """The curves of a cell; the recalibrated accuracy if all runs have it and it is further than
    APART from the plain one at an epoch."""
    if not all(RECALIBRATED.name in record.history for record in cell.finished):
        return plotted.over_seeds(cell, list(LINES))
    frame = plotted.over_seeds(cell, list(ALL))
    plain, anew = (frame[frame["quantity"] == name]["mean"].array for name in ("test_accuracy", RECALIBRATED.name))
    return frame if max(abs(anew - plain)) > APART else frame[frame["quantity"] != RECALIBRATED.name]


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
    handles = style.method_handles(names) + style.line_handles(
        {label: line for name, (label, line) in ALL.items() if (frame["quantity"] == name).any()}
    )
    return style.finish(figure, handles, frame.attrs["caption"])


def _panel(axes: Axes, part: pd.DataFrame, names: list[str]) -> None:
    for (_, quantity), rows in part[part["quantity"] != "alpha"].groupby(["method", "quantity"], sort=False):
        style.curve(axes, rows, "epoch", names, ALL[str(quantity)][1])
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
            label, line = ALL[str(quantity)]
            lines += traces.curve(rows, "epoch", names, f"{method}, {label}", line)
        (size,) = plotted.sizes(part).values()
        shapes = [traces.rule("y", alpha) for alpha in _alphas(part)]
        heading = f"{title_of(str(setting))}, {size}"
        made.append(traces.panel(heading, "epoch", "accuracy, gap", lines, shapes=shapes))
    return made


def _alphas(part: pd.DataFrame) -> list[float]:
    return sorted(set(part[part["quantity"] == "alpha"]["mean"]))
