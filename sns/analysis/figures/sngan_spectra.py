"""SN-GAN: squared singular values of the discriminator's weight matrices, largest scaled to 1."""

import math

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sns.analysis.cells import Results, methods_of, title_of
from sns.analysis.figures import plotted, style, traces
from sns.analysis.sngan import runs
from sns.common.errors import RecordError

TITLE = "Squared singular values of the discriminator"
OPTIONAL = True  # of GANs only
COLUMNS = [*plotted.KEYS, "optimizer", "layer", "index", "mean", "low", "high", "n"]
MOST = 9  # panels of a drawing
CAPTION = (
    "Squared singular values of the weight matrices as the discriminator's layers use them, at the end of training, "
    "the largest of each matrix scaled to 1, against their index. Each method in its best Adam setting. Line: mean "
    "over seeds; band: least to greatest. The mean height of a curve is stable rank / full rank. Drawn: {}."
)


def compute(results: Results, setting: str | None = None) -> pd.DataFrame:
    """Rows COLUMNS: mean, least and greatest over n seeds of (singular value / largest)^2 for each
    setting, method, layer and index. Layers with one singular value are left out.

    `setting` limits it to one. RecordError where no such run of a GAN has spectra.
    """
    frame = runs.compute(results)
    names = [name for name in dict.fromkeys(frame["setting"]) if setting in (None, name)]
    chosen = runs.best(frame)
    rank = {method: number for number, method in enumerate(dict.fromkeys(frame["method"]))}
    shown = [r for r in runs.records(results) if chosen.get((r.result.setting, r.result.method)) == r.result.optimizer]
    shown = [record for record in shown if record.result.setting in names and record.spectra is not None]
    tables = []
    for record in sorted(shown, key=lambda record: (names.index(record.result.setting), rank[record.result.method])):
        values = record.spectra
        assert values is not None
        largest = values.groupby("layer")["singular_value"].transform("max")
        keys = {name: getattr(record.result, name) for name in (*plotted.KEYS, "optimizer")}
        tables.append(values.assign(value=(values["singular_value"] / largest) ** 2, **keys))
    if not tables:
        raise RecordError("no run of a GAN in its best Adam setting measured its spectra")
    long = pd.concat(tables)
    long = long[long.groupby("layer")["index"].transform("max") > 0]
    groups = long.groupby([*plotted.KEYS, "optimizer", "layer", "index"], sort=False)["value"]
    joined = groups.agg(mean="mean", low="min", high="max", n="count").reset_index()[COLUMNS]
    best = ", ".join(f"{method} {runs.ADAM.get(name, name)}" for (_, method), name in chosen.items())
    joined.attrs["caption"] = (
        f"{CAPTION.format(title_of(str(joined['setting'].iloc[0])))}\nBest settings: {best}.\n"
        f"{plotted.runs_shown(shown, names)}"
    )
    return joined


def _first(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The rows of the first setting, and at most MOST of its layers, evenly spaced."""
    own = frame[frame["setting"] == frame["setting"].iloc[0]]
    layers = list(dict.fromkeys(own["layer"]))
    return own, [layers[place] for place in traces.thin(len(layers), MOST)]


def draw(frame: pd.DataFrame) -> Figure:
    """A panel for each of at most MOST weight matrices of the first setting."""
    (own, layers), names = _first(frame), methods_of(frame)
    columns = min(4, len(layers))
    rows = math.ceil(len(layers) / columns)
    figure = style.new(10.0, 1.2 + 2.1 * rows)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes, layer in zip(grid.flat, layers, strict=False):
        style.curves(axes, own[own["layer"] == layer], "index", names)
        axes.set(title=f"layer {str(layer).removesuffix('.weight')}", ylim=(0, 1.03))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    for unused in grid.flat[len(layers) :]:
        unused.set_axis_off()
    figure.supylabel("(singular value / largest)²", fontsize=8)
    return style.finish(figure, style.method_handles(names), frame.attrs["caption"], columns=5)


def panels(frame: pd.DataFrame) -> list[traces.Panel]:
    """A panel for each weight matrix of each setting."""
    names, made = methods_of(frame), []
    for (setting, layer), part in frame.groupby(["setting", "layer"], sort=False):
        lines = traces.curves(part, "index", names, plotted.sizes(part))
        made.append(traces.panel(f"{title_of(str(setting))}: {layer}", "index", "(σ / largest)²", lines))
    return made
