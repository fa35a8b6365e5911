"""One run in a figure, for the trackers: accuracies, input-gradient norms, spectra."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sns.analysis.cells import title_of
from sns.analysis.figures import style
from sns.record.store import Record


def draw(record: Record) -> Figure:
    """Figure 1's curves, Figure 2's gradient norms and section 4.4's spectra, of this run alone."""
    result, history = record.result, record.history
    figure = style.new(9.5, 2.8)
    *curves, spectrum = figure.subplots(1, 3)
    colour, _ = style.look(result.method)
    labels = {"accuracy": "accuracy", "gradient_norm": "L2 norm of the input gradient"}
    for axes, (column, label) in zip(curves, labels.items(), strict=True):
        for part, line in (("train", "--"), ("test", "-")):
            axes.plot(history["epoch"], history[f"{part}_{column}"], color=colour, ls=line, label=part)
        axes.set(xlabel="epoch", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()
    _spectra(spectrum, record, colour)
    status = "" if result.status == "ok" else f", {result.status}"
    name = f"{title_of(result.setting)}, {result.method}, B={result.batch_size}"
    figure.suptitle(f"{name}, seed {result.seed}{status}")
    return figure


def _spectra(axes: Axes, record: Record, colour: str) -> None:
    """Singular values of each layer over their rank, both scaled to 1, early layers faint."""
    table = record.spectra
    if table is None or table.empty:
        style.empty(axes, "no spectra")
        return
    layers = [rows["singular_value"] for _, rows in table.groupby("layer", sort=False)]
    for number, values in enumerate(layers, start=1):
        place = [i / max(len(values) - 1, 1) for i in range(len(values))]
        axes.plot(place, values / values.iloc[0], color=colour, lw=0.8, alpha=0.2 + 0.8 * number / len(layers))
    axes.set(xlabel="rank of the singular value / all", ylabel="singular value / largest", ylim=(0, 1.02))
