"""What the page's panels share: traces and layouts in Plotly's own terms, thinned so that the page
stays small."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from sns.analysis.cells import REGIMES
from sns.analysis.figures import style

POINTS = 150  # at most, of one curve
DARK = {"#000000": "#e6e6e6", "#0072B2": "#4a7dff", "#D55E00": "#ff8a3d", "#56B4E9": "#4fd6e6"}
SYMBOLS = {  # by matplotlib's marker: Plotly's name and the character for a legend
    "o": ("circle", "●"),
    "s": ("square", "■"),
    "^": ("triangle-up", "▲"),
    "D": ("diamond", "◆"),
    "v": ("triangle-down", "▼"),
    "P": ("cross", "✚"),
    "d": ("diamond-tall", "♦"),
    "p": ("pentagon", "⬟"),
    "h": ("hexagon", "⬢"),
    "<": ("triangle-left", "◀"),
    ">": ("triangle-right", "▶"),
    "X": ("x", "✖"),
    "*": ("star", "★"),
}
DASHES = {"-": "solid", "--": "dash", ":": "dot", "-.": "dashdot"}
Trace = dict[str, Any]
Panel = dict[str, Any]  # title, data (traces), layout


def look(method: str, methods: Iterable[str]) -> dict[str, str]:
    """How a method looks: its colour on a light and on a dark page, Plotly's symbol, and the symbol
    as a character."""
    colour, marker = style.look(method, methods)
    symbol, glyph = SYMBOLS.get(marker, ("x", "✖"))
    return {"colour": colour, "dark": DARK.get(colour, colour), "symbol": symbol, "glyph": glyph}


def short(values: Iterable[float]) -> list[float | None]:
    """Four significant digits; None for what is not finite."""
    numbers = tuple(np.asarray(list(values), float).tolist())
    shown = ("%.4g " * len(numbers) % numbers).split()  # one call: a page has half a million numbers
    return [number if math.isfinite(number) else None for number in map(float, shown)]


def thin(count: int, points: int = POINTS) -> np.ndarray:
    """At most `points` indices of `count`, evenly spaced, first and last included."""
    return np.unique(np.linspace(0, count - 1, min(points, count)).round().astype(int)) if count else np.array([], int)


def curve(rows: pd.DataFrame, x: str, names: list[str], name: str, line: str) -> list[Trace]:
    """One method's `mean` over column `x` as a line; a band from `low` to `high` where there are
    several seeds."""
    rows = rows.iloc[thin(len(rows))]
    method = str(rows["method"].iloc[0])
    chosen = look(method, names)
    colour, at = chosen["colour"], short(rows[x])
    marker = {"color": colour, "symbol": chosen["symbol"], "size": 6, "maxdisplayed": 7}
    trace = {"x": at, "y": short(rows["mean"]), "name": name, "meta": method, "mode": "lines+markers", "marker": marker}
    traces: list[Trace] = [{**trace, "line": {"color": colour, "dash": DASHES[line], "width": 1.8}}]
    if rows["n"].max() > 1:
        edge = short(rows["high"]) + short(rows["low"])[::-1]
        band = {"x": at + at[::-1], "y": edge, "fill": "toself", "fillcolor": colour, "opacity": 0.15, "meta": method}
        traces.append({**band, "line": {"width": 0}, "mode": "lines", "hoverinfo": "skip"})
    return traces


def curves(part: pd.DataFrame, x: str, names: list[str], sizes: dict[str, str]) -> list[Trace]:
    """A `curve` for each method and regime, in the line style of the regime; `sizes` as in
    `plotted.sizes`."""
    traces: list[Trace] = []
    for (method, regime), rows in part.groupby(["method", "regime"], sort=False):
        name = f"{method}, {sizes[str(regime)]}"
        traces += curve(rows, x, names, name, style.REGIME_LINES[str(regime)])
    return traces


def interval(axis: str, row: Mapping[str, Any], names: list[str]) -> Trace:
    """A cell's `mean` with its interval from `low` to `high` along `axis` ("x" or "y"), filled for
    the small batch. The caller adds the place on the other axis."""
    chosen = look(row["method"], names)
    symbol = chosen["symbol"] + ("" if row["regime"] == REGIMES[0] else "-open")
    marker = {"color": chosen["colour"], "size": 9, "symbol": symbol}
    at, low, high = short([row["mean"], row["low"], row["high"]])
    trace: Trace = {axis: [at], "meta": row["method"], "mode": "markers", "marker": marker}
    if at is not None and low is not None and high is not None:
        ends = {"type": "data", "symmetric": False, "array": [high - at], "arrayminus": [at - low]}
        trace[f"error_{axis}"] = {**ends, "color": chosen["colour"]}
    return trace


def rule(axis: str, at: float) -> dict[str, Any]:
    """A straight line across the panel at this value of `axis`, a shape of the layout."""
    other = "y" if axis == "x" else "x"
    ends = {f"{axis}0": at, f"{axis}1": at, f"{other}0": 0, f"{other}1": 1, f"{other}ref": "paper"}
    return {"type": "line", **ends, "line": {"width": 1}}


def panel(title: str, x: str, y: str, traces: list[Trace], **layout: Any) -> Panel:
    """A panel with these titles; `layout` is Plotly's, its xaxis and yaxis are merged in."""
    axes = {axis: {"title": {"text": text}, **layout.pop(axis, {})} for axis, text in (("xaxis", x), ("yaxis", y))}
    return {"title": title, "data": traces, "layout": {**axes, **layout}}
