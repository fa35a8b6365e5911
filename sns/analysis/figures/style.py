"""How every figure looks: colours and markers of the methods, the paper's line styles, captions,
undated files."""

import textwrap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

# From Okabe and Ito's palette, which colour-blind readers can tell apart, chosen so that the
# luminances differ in grey print too (0, 34, 47 and 62 %); markers repeat the distinction.
COLOURS = {"vanilla": "#000000", "spectral": "#0072B2", "decay": "#D55E00", "adversarial": "#56B4E9"}
MARKERS = {"vanilla": "o", "decay": "s", "adversarial": "^", "spectral": "D"}
SPARE = (("#CC79A7", "v"), ("#009E73", "P"), ("#E69F00", "X"), ("#777777", "*"))
REGIME_LINES = {"small": "-", "large": "--"}  # captions of Figures 2 and 4

RC: dict[str, Any] = {
    "font.size": 8,
    "font.family": "DejaVu Sans",
    "axes.titlesize": 8.5,
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


@contextmanager
def context() -> Iterator[None]:
    """The settings above for what is drawn inside, whatever the reader's own matplotlibrc says."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.use("Agg")
        matplotlib.rcParams.update(RC)  # type: ignore[arg-type]
        yield


def look(method: str, methods: Iterable[str] = ()) -> tuple[str, str]:
    """Colour and marker of a method; one that the paper does not have takes a spare one by its
    place in `methods`."""
    if method in COLOURS:
        return COLOURS[method], MARKERS[method]
    others = sorted({*methods, method} - COLOURS.keys())
    return SPARE[others.index(method) % len(SPARE)]


def method_handles(methods: Iterable[str]) -> list[Line2D]:
    """Legend entries for the colours."""
    names = list(methods)
    pairs = [(name, *look(name, names)) for name in names]
    return [Line2D([], [], color=colour, marker=marker, ms=4, label=name) for name, colour, marker in pairs]


def line_handles(lines: dict[str, str]) -> list[Line2D]:
    """Legend entries for line styles, in grey: {label: style}."""
    return [Line2D([], [], color="#555555", ls=style, label=label) for label, style in lines.items()]


def finish(figure: Figure, handles: list[Line2D], caption: str, columns: int = 8) -> Figure:
    """Adds a legend above and the caption, wrapped to the width, below; constrained layout makes
    room for both."""
    figure.legend(handles=handles, loc="outside upper center", ncols=min(columns, len(handles)))
    width = int(figure.get_figwidth() * 21)
    wrapped = "\n".join(textwrap.fill(line, width) for line in caption.splitlines())
    figure.supxlabel(wrapped, x=0.01, ha="left", fontsize=6.5, color="#333333", linespacing=1.25)
    return figure


def empty(axes: Axes, text: str) -> None:
    """Says in a panel without data why it is empty."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color="#777777")
    axes.set_xticks([])
    axes.set_yticks([])


def new(width: float, height: float) -> Figure:
    """A figure of this size in inches with constrained layout."""
    return plt.figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, stem: Path) -> list[Path]:
    """Writes stem.png and stem.pdf, bitwise the same for the same figure: no dates, no version in
    the metadata."""
    if (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)  # once: it costs more than drawing and gives the same for both files
        figure.set_layout_engine(None)
    files = [stem.with_suffix(".png"), stem.with_suffix(".pdf")]
    figure.savefig(files[0], metadata={"Software": None})
    figure.savefig(files[1], metadata={"CreationDate": None, "Creator": None, "Producer": None})
    plt.close(figure)
    return files
