"""Figure 4: the singular values of weight matrices, sorted (section 4.4)."""

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sns.analysis.cells import Results
from sns.analysis.figures import plotted, style
from sns.common.errors import RecordError
from sns.record.store import Record

NUMBER = 4
COLUMNS = [*plotted.KEYS, "layer", "kind", "index", "mean", "low", "high", "n"]
PANELS = 12  # small multiples at most
TEXT = (
    "Figure 4. Singular values of the reshaped weight matrices (output channels x the rest) at the end of training, "
    "sorted, against their index; solid small batch, dashed large; line: mean over seeds, band: least to greatest. "
    "Left: {layer}; right: {shown} of the {total} weight matrices, first to last."
)


def compute(grid: Results, setting: str | None = None, layer: str | None = None) -> pd.DataFrame:
    """A row for each cell, weight matrix and index: mean, least and greatest singular value over
    the n runs.

    `layer` is the one drawn large, by default the middle convolution. Raises RecordError where no
    run of the setting measured its spectra or `layer` is not among them.
    """
    name = plotted.main_setting(grid, setting)
    frames, faults = [], []
    for cell in plotted.cells(grid, [name]):
        tables, unread = plotted.readable(cell, _values)
        faults += unread
        if tables:
            groups = pd.concat(tables).groupby(["layer", "kind", "index"], sort=False)["singular_value"]
            numbers = groups.agg(mean="mean", low="min", high="max", n="count").reset_index()
            frames.append(numbers.assign(**plotted.key(cell))[COLUMNS])
    if not frames:
        raise RecordError(
            f"no run of {name} measured its spectra; train with measure.spectra=true or measure checkpoints"
        )
    frame = pd.concat(frames, ignore_index=True)
    layers = list(dict.fromkeys(frame["layer"]))
    convolutions = list(dict.fromkeys(frame[frame["kind"] == "conv"]["layer"])) or layers
    chosen = convolutions[len(convolutions) // 2] if layer is None else layer
    if chosen not in layers:
        raise RecordError(f"{name} has no weight matrix {chosen}; there are: {', '.join(layers)}")
    text = TEXT.format(layer=chosen, shown=len(_spread(layers)), total=len(layers)) + plotted.instead(name)
    frame.attrs.update(layer=chosen, caption=plotted.caption(text, grid, [name], faults))
    return frame


def _values(record: Record) -> pd.DataFrame | None:
    """Spectra of a run with the kind of each layer."""
    if record.spectra is None:
        return None
    kinds: dict[Any, Any] = {} if record.layers is None else dict(record.layers[["layer", "kind"]].to_numpy())
    return record.spectra.assign(kind=record.spectra["layer"].map(kinds).fillna("unknown"))


def _spread(layers: list[str]) -> list[str]:
    """At most PANELS layers, evenly spaced, first and last included."""
    places = np.unique(np.linspace(0, len(layers) - 1, min(PANELS, len(layers))).round().astype(int))
    return [layers[place] for place in places]


def draw(frame: pd.DataFrame, layer: str | None = None) -> Figure:
    """The figure from `compute`'s rows: one layer large, small multiples of the others."""
    layers = list(dict.fromkeys(frame["layer"]))
    chosen = frame.attrs.get("layer", layers[0]) if layer is None else layer
    shown, names = _spread(layers), plotted.methods(frame)
    figure = style.new(10.0, 4.9)
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=[1, 1.6])[0]
    axes = left.subplots()
    _panel(axes, frame[frame["layer"] == chosen], names)
    axes.set(title=f"{plotted.title(str(frame['setting'].iloc[0]))}\n{chosen}", xlabel="index", ylabel="singular value")
    columns = math.ceil(math.sqrt(len(shown)))
    panels = right.subplots(-(-len(shown) // columns), columns, squeeze=False).ravel()
    for small, name in zip(panels, shown, strict=False):
        _panel(small, frame[frame["layer"] == name], names, 0.9)
        small.set_title(name.removesuffix(".weight"), fontsize=6.5)
        small.tick_params(labelsize=6)
    for unused in panels[len(shown) :]:
        unused.set_axis_off()
    batch = plotted.sizes(frame, str(frame["setting"].iloc[0]))
    lines = {batch[regime]: style.REGIME_LINES[regime] for regime in batch}
    handles = style.method_handles(names) + style.line_handles(lines)
    return style.finish(figure, handles, frame.attrs.get("caption", ""))


def _panel(axes: Axes, part: pd.DataFrame, names: list[str], width: float = 1.4) -> None:
    for (method, regime), rows in part.groupby(["method", "regime"], sort=False):
        colour, marker = style.look(str(method), names)
        line = style.REGIME_LINES[str(regime)]
        every = (names.index(str(method)) * len(rows) // 40, max(1, len(rows) // 6))
        mark = marker if width > 1 else ""
        axes.plot(rows["index"], rows["mean"], color=colour, ls=line, lw=width, marker=mark, markevery=every, ms=3.5)
        if rows["n"].max() > 1:
            axes.fill_between(rows["index"], rows["low"], rows["high"], color=colour, alpha=0.15, lw=0)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
