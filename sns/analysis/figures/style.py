"""How every figure looks: colours and markers of the methods, line styles, captions, files without
dates."""

import io
import textwrap
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import matplotlib.style
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

# From Okabe and Ito's palette, which colour-blind readers can tell apart. The luminances differ in
# grey print too (0, 34, 47 and 62 %), and the markers repeat the distinction.
COLOURS = {"vanilla": "#000000", "spectral": "#0072B2", "decay": "#D55E00", "adversarial": "#56B4E9"}
MARKERS = {"vanilla": "o", "decay": "s", "adversarial": "^", "spectral": "D"}
SPARE = (("#CC79A7", "v"), ("#009E73", "P"), ("#E69F00", "X"), ("#777777", "*"))  # of up to four others
# With more methods a colour says what a method changes, and a marker which one it is.
FAMILIES = {
    "sigma penalties": ("#0072B2", {"spectral_operator": "d", "unit_sigma": "p", "orthonormal": "h"}),
    "gradient at moved inputs or weights": ("#56B4E9", {"sam": ">"}),
    "Jacobian penalties": ("#E69F00", {"jacobian": "v", "layerwise_jacobian": "<", "gan_gp": "P", "wgan_gp": "X"}),
    "normalised activations": ("#777777", {"batch_norm": "s", "layer_norm": "^"}),
    "weights changed after the step": (
        "#009E73",
        {
            "spectral_decay": "v",
            "spectral_hammer": "P",
            "spectral_soft_cap": "<",
            "spectral_hard_cap": "X",
            "lipschitz_projection": "*",
            "weight_clipping": "s",
        },
    ),
    "reparametrised weights": (
        "#CC79A7",
        {"spectral_normalization": "o", "sigma_reparam": "s", "stable_rank": "^", "weight_norm": "d"},
    ),
}
LOOKS = {name: (colour, marker) for colour, members in FAMILIES.values() for name, marker in members.items()}
REGIME_LINES = {"small": "-", "large": "--"}  # captions of Figures 2 and 4

RC: dict[str, Any] = {
    "font.size": 8,
    "font.family": "DejaVu Sans",
    "axes.titlesize": 8.5,
    "axes.titley": 1.0,  # where it is anyway; else each drawing measures all tick labels to find it
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.2,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.dpi": 100,
    "savefig.dpi": 140,
}


def context() -> AbstractContextManager[None]:
    """The settings above for what is drawn inside, whatever the user's own matplotlibrc says."""
    return matplotlib.style.context(["default", RC])


def look(method: str, methods: Iterable[str] = ()) -> tuple[str, str]:
    """Colour and marker of a method. One that the paper does not have takes a spare pair by its
    place in `methods`, or that of its family where these are many."""
    if method in COLOURS:
        return COLOURS[method], MARKERS[method]
    others = sorted({*methods, method} - COLOURS.keys())
    if len(others) > len(SPARE) and method in LOOKS:
        return LOOKS[method]
    return SPARE[others.index(method) % len(SPARE)]


def curve(axes: Axes, rows: pd.DataFrame, x: str, names: list[str], line: str, **options: Any) -> None:
    """One method's `mean` over column `x` as a line; a band from `low` to `high` where there are
    several seeds.

    `names` are all methods of the figure. Their markers are staggered, so that none hides another.
    """
    method = str(rows["method"].iloc[0])
    colour, marker = look(method, names)
    every = (names.index(method) * len(rows) // 40, max(1, len(rows) // 8))
    options = {"marker": marker, "markevery": every, "ms": 3, **options}
    axes.plot(rows[x], rows["mean"], color=colour, ls=line, **options)
    if rows["n"].max() > 1:
        axes.fill_between(rows[x], rows["low"], rows["high"], color=colour, alpha=0.15, lw=0)


def curves(axes: Axes, part: pd.DataFrame, x: str, names: list[str], **options: Any) -> None:
    """A `curve` for each method and regime, in the line style of the regime."""
    for (_, regime), rows in part.groupby(["method", "regime"], sort=False):
        curve(axes, rows, x, names, REGIME_LINES[str(regime)], **options)


def method_handles(methods: Iterable[str]) -> list[Line2D]:
    """Legend entries for the colours."""
    names = list(methods)
    pairs = [(name, *look(name, names)) for name in names]
    return [Line2D([], [], color=colour, marker=marker, ms=4, label=name) for name, colour, marker in pairs]


def line_handles(lines: dict[str, str]) -> list[Line2D]:
    """Legend entries for line styles, in grey: {label: style}."""
    return [Line2D([], [], color="#555555", ls=style, label=label) for label, style in lines.items()]


def regime_handles(sizes: dict[str, str]) -> list[Line2D]:
    """Legend entries for the batch sizes, `sizes` as in `plotted.sizes`."""
    return line_handles({size: REGIME_LINES[regime] for regime, size in sizes.items()})


def finish(figure: Figure, handles: list[Any], caption: str, columns: int = 8) -> Figure:
    """Adds a legend of at most so many `columns` above and the caption, wrapped to the width,
    below; constrained layout makes room for both."""
    figure.legend(handles=handles, loc="outside upper center", ncols=min(columns, max(1, len(handles))))
    width = int(figure.get_figwidth() * 21)
    wrapped = "\n".join(textwrap.fill(line, width) for line in caption.splitlines())
    figure.supxlabel(wrapped, x=0.01, ha="left", fontsize=6.5, color="#333333", linespacing=1.25)
    return figure


def empty(axes: Axes, text: str) -> None:
    """Says in a panel without data why it is empty."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color="#777777")
    axes.set_xticks([])


def new(width: float, height: float) -> Figure:
    """A figure of this size in inches with constrained layout."""
    return Figure(figsize=(width, height), layout="constrained")


def images(figure: Figure) -> dict[str, bytes]:
    """The content of a .png and a .pdf file. The same figure gives the same bytes: the metadata
    hold no date and no version."""
    if (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)  # once: it costs more than drawing and gives the same for both files
        figure.set_layout_engine(None)
    pdf = io.BytesIO()
    figure.savefig(pdf, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
    return {".png": png(figure), ".pdf": pdf.getvalue()}


def png(figure: Figure) -> bytes:
    """The figure as the content of a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()
