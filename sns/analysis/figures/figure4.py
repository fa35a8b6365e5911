"""Figure 4: the singular values of weight matrices, sorted (section 4.4)."""

import math
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sns.analysis.cells import Results, methods_of, title_of
from sns.analysis.figures import plotted, style, traces
from sns.common.errors import RecordError
from sns.record.store import Record

TITLE = "Singular values of the weight matrices"
COLUMNS = [*plotted.KEYS, "layer", "kind", "index", "mean", "low", "high", "n"]
SMALL = 12  # at most, of the small panels
CAPTION = (
    "Singular values of the reshaped weight matrices (output channels x the rest) at the end of training, sorted, "
    "against their index. Solid: small batch; dashed: large batch. Line: mean over seeds; band: least to greatest. "
    "Shown first: {layer}; in the file, small: {shown} of the {total} weight matrices, first to last."
)


def compute(results: Results, setting: str | None = None) -> pd.DataFrame:
    """A row for each cell, weight matrix and index: mean, least and greatest singular value over
    the n runs. The middle convolution is shown first.

    Raises RecordError where no run of the setting measured its spectra.
    """
    name = plotted.main_setting(results, setting)
    frames, faults = [], []
    for cell in plotted.cells(results, [name]):
        tables: list[pd.DataFrame] = []
        for record in cell.finished:
            try:
                tables += _values(record)
            except RecordError as error:
                faults.append(str(error))
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
    first = convolutions[len(convolutions) // 2]
    text = CAPTION.format(layer=first, shown=len(_spread(layers)), total=len(layers)) + plotted.instead(name)
    frame.attrs.update(first_panel=first, caption=plotted.caption(text, results, [name], faults))
    return frame


def _values(record: Record) -> list[pd.DataFrame]:
    """The spectra of a run with the kind of each layer, [] where they were not measured."""
    if record.spectra is None or record.spectra.empty:
        return []
    kinds: dict[Any, Any] = {} if record.layers is None else dict(record.layers[["layer", "kind"]].to_numpy())
    return [record.spectra.assign(kind=record.spectra["layer"].map(kinds).fillna("unknown"))]


def _spread(layers: list[str]) -> list[str]:
    """At most SMALL layers, evenly spaced, first and last included."""
    return [layers[place] for place in traces.thin(len(layers), SMALL)]


def draw(frame: pd.DataFrame) -> Figure:
    """One layer large, the others small."""
    chosen, title = frame.attrs["first_panel"], title_of(str(frame["setting"].iloc[0]))
    shown, names = _spread(list(dict.fromkeys(frame["layer"]))), methods_of(frame)
    figure = style.new(10.0, 4.9)
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=[1, 1.6])[0]
    axes = left.subplots()
    _panel(axes, frame[frame["layer"] == chosen], names, lw=1.4)
    axes.set(title=f"{title}\n{chosen}", xlabel="index", ylabel="singular value")
    columns = math.ceil(math.sqrt(len(shown)))
    grid = right.subplots(-(-len(shown) // columns), columns, squeeze=False).ravel()
    for small, name in zip(grid, shown, strict=False):
        _panel(small, frame[frame["layer"] == name], names, lw=0.9, marker="")
        small.set_title(name.removesuffix(".weight"), fontsize=6.5)
        small.tick_params(labelsize=6)
    for unused in grid[len(shown) :]:
        unused.set_axis_off()
    handles = style.method_handles(names) + style.regime_handles(plotted.sizes(frame))
    return style.finish(figure, handles, frame.attrs["caption"])


def _panel(axes: Axes, part: pd.DataFrame, names: list[str], **options: Any) -> None:
    style.curves(axes, part, "index", names, **options)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))


def panels(frame: pd.DataFrame) -> list[traces.Panel]:
    """A panel for each weight matrix."""
    names, sizes = methods_of(frame), plotted.sizes(frame)
    lines = {str(name): traces.curves(part, "index", names, sizes) for name, part in frame.groupby("layer", sort=False)}
    return [traces.panel(name, "index", "singular value", lines[name], hovermode="x unified") for name in lines]
