"""All methods: test accuracy against gap, one mark a method."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sns.analysis.cells import METHODS, REGIMES, Results, by_optimizer, methods_of, title_of
from sns.analysis.figures import plotted, style, traces
from sns.analysis.stats import summarise
from sns.common.errors import RecordError

TITLE = "All methods"
OPTIONAL = True  # for experiments with more than the paper's methods
QUANTITIES = ("gap", "test_accuracy")  # horizontal, vertical
PLACE = ["setting", "regime", "batch_size", "optimizer"]  # of a panel
COLUMNS = [*PLACE, "method", "n", *(f"{name}{part}" for name in QUANTITIES for part in ("", "_low", "_high"))]
CAPTION = (
    "Test accuracy against the gap (training minus test accuracy) at the last evaluation. Mark: mean over seeds; "
    "lines: 95% t interval of each mean, cut off at the frame. Upper left is better."
)


def compute(results: Results, setting: str | None = None) -> pd.DataFrame:
    """Rows COLUMNS: for each cell the means over n seeds of test accuracy and gap, as fractions,
    with their 95% t intervals (none with one seed).

    `setting` limits it to one. RecordError where only the paper's methods trained to the end.
    """
    settings = list(results.settings) if setting is None else [plotted.main_setting(results, setting)]
    optimizers, rows = by_optimizer(results), list[dict[str, Any]]()
    for optimizer, own in optimizers.items():
        for cell in plotted.cells(own, settings):
            row: dict[str, Any] = {**plotted.key(cell), "optimizer": optimizer, "n": len(cell.finished)}
            for name in QUANTITIES:
                mean = summarise(record.result.final[name] for record in cell.finished)
                row |= {name: mean.mean, f"{name}_low": mean.low, f"{name}_high": mean.high}
            rows.append(row)
    if {row["method"] for row in rows} <= set(METHODS):
        raise RecordError("this figure compares more methods than the paper's: train experiment=bakeoff")
    frame = pd.DataFrame(rows, columns=COLUMNS).astype(dict.fromkeys(COLUMNS[6:], float))
    if len(optimizers) == 1:
        frame.attrs["caption"] = plotted.caption(CAPTION, results, settings)
    else:
        cells = [cell for own in optimizers.values() for cell in plotted.cells(own, settings)]
        records = [record for cell in cells for record in cell.finished]
        counts = sorted({len(cell.finished) for cell in cells})
        frame.attrs["caption"] = f"{CAPTION}\n{plotted.runs_shown(records, settings, counts)}"
    return frame


def _panels(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Title and rows of each setting, batch size and optimizer, in percent and points."""
    several = frame["optimizer"].nunique() > 1
    for (setting, _, size, optimizer), part in frame.groupby(PLACE, sort=False):
        title = f"{title_of(str(setting))}, B = {size}{f', {optimizer}' if several else ''}"
        yield title, part.assign(**100 * part[COLUMNS[6:]])


def draw(frame: pd.DataFrame) -> Figure:
    """A panel for each setting, batch size and optimizer; the names stand beside the panel, in the
    order of accuracy, each with a line to its mark."""
    several, names = list(_panels(frame)), methods_of(frame)
    rows = -(-len(several) // 2)
    figure = style.new(10.0, 0.7 + rows * max(2.6, 0.145 * len(names) + 0.9))
    grid = figure.subplots(rows, 2, squeeze=False)
    for axes, (title, part) in zip(grid.flat, several, strict=False):
        _panel(axes, part, names)
        axes.set_title(title)
        axes.set(xlabel="gap, points", ylabel="test accuracy, %")
    for axes in grid.flat[len(several) :]:
        axes.set_visible(False)
    return style.finish(figure, _handles(names), frame.attrs["caption"])


def _panel(axes: Axes, part: pd.DataFrame, names: list[str]) -> None:
    for row in part.to_dict("records"):
        colour, marker = style.look(row["method"], names)
        x, y = (row[name] for name in QUANTITIES)
        axes.plot([row["gap_low"], row["gap_high"]], [y, y], color=colour, lw=0.8, alpha=0.6)
        axes.plot([x, x], [row["test_accuracy_low"], row["test_accuracy_high"]], color=colour, lw=0.8, alpha=0.6)
        axes.plot(x, y, color=colour, marker=marker, ms=6, mec="white", mew=0.4, ls="none", zorder=3)
    limits = []
    for name in QUANTITIES:
        low, high = part[name].min(), part[name].max()
        margin = max(0.12 * (high - low), 0.5)  # an interval that is far longer would hide the differences
        limits.append((low - margin, high + margin))
    axes.set(xlim=limits[0], ylim=limits[1])
    _label(axes, part.sort_values("test_accuracy"), names)


def _label(axes: Axes, part: pd.DataFrame, names: list[str]) -> None:
    """Names to the right of the panel, evenly spaced, the most accurate on top."""
    places = [(number + 0.5) / len(part) for number in range(len(part))]
    line = {"arrowstyle": "-", "lw": 0.4, "alpha": 0.5, "shrinkA": 3, "shrinkB": 3}
    for place, row in zip(places, part.to_dict("records"), strict=True):
        colour, marker = style.look(row["method"], names)
        beside: dict[str, Any] = {"color": colour, "clip_on": False, "transform": axes.transAxes}
        axes.plot(1.04, place, marker=marker, ms=4.5, ls="none", **beside)
        axes.text(1.06, place, row["method"], va="center", fontsize=6.5, **beside)
        axes.annotate(
            "",
            (row["gap"], row["test_accuracy"]),
            xytext=(1.04, place),
            textcoords="axes fraction",
            arrowprops={"color": colour, **line},
            annotation_clip=False,
        )


def _handles(names: list[str]) -> list[Line2D]:
    """The legend: what a colour says. The names of the methods stand at the marks."""
    looks = {name: style.look(name, names)[0] for name in names}
    families = {
        colour: label
        for label, (colour, members) in style.FAMILIES.items()
        if any(looks.get(name) == colour for name in members)
    }
    return [
        Line2D([], [], color=colour, marker="o", ls="none", ms=5, label=label) for colour, label in families.items()
    ]


def panels(frame: pd.DataFrame) -> list[traces.Panel]:
    """The same for the report's page; the names appear under the pointer."""
    names, made = methods_of(frame), []
    for title, part in _panels(frame):
        points: list[traces.Trace] = []
        for row in part.to_dict("records"):
            trace: traces.Trace = {"name": row["method"]}
            for axis, name in zip("xy", QUANTITIES, strict=True):
                ends = {"mean": row[name], "low": row[f"{name}_low"], "high": row[f"{name}_high"]}
                trace |= traces.interval(axis, {"method": row["method"], "regime": REGIMES[0], **ends}, names)
            numbers = f"test accuracy %{{y:.1f}}%, gap %{{x:.1f}} points, {row['n']} seed(s)"
            points.append({**trace, "hovertemplate": f"{row['method']}<br>{numbers}<extra></extra>"})
        layout = {"height": 420, "hovermode": "closest"}
        made.append(traces.panel(title, "gap, points", "test accuracy, %", points, **layout))
    return made
