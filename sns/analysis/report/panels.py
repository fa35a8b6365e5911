"""Panels of the report's figures: traces and layout in Plotly's own terms, thinned so that the page
stays small."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from sns.analysis.cells import REGIMES
from sns.analysis.figures import figure2, figure3, plotted, style

POINTS = 150  # at most, of one curve
DARK = {"#000000": "#e6e6e6", "#0072B2": "#4a7dff", "#D55E00": "#ff8a3d", "#56B4E9": "#4fd6e6"}
SYMBOLS = {"o": "circle", "s": "square", "^": "triangle-up", "D": "diamond", "v": "triangle-down", "P": "cross"}
GLYPHS = {
    "circle": "●",
    "square": "■",
    "triangle-up": "▲",
    "diamond": "◆",
    "triangle-down": "▼",
    "cross": "✚",
    "x": "✖",
}
DASHES = {"-": "solid", "--": "dash", ":": "dot"}
CURVES = {"test_accuracy": ("test", "solid"), "train_accuracy": ("train", "dash"), "gap": ("gap", "dot")}
REGIME_DASH = {regime: DASHES[line] for regime, line in style.REGIME_LINES.items()}
Panel = dict[str, Any]


def look(method: str, methods: Iterable[str]) -> dict[str, str]:
    """Colour on a light and on a dark page, Plotly's symbol of a method and the same as a
    character."""
    colour, marker = style.look(method, methods)
    symbol = SYMBOLS.get(marker, "x")
    return {"colour": colour, "dark": DARK.get(colour, colour), "symbol": symbol, "glyph": GLYPHS[symbol]}


def short(values: Iterable[float]) -> list[float | None]:
    """Four significant digits; None for what is not finite."""
    return [float(f"{value:.4g}") if np.isfinite(value) else None for value in np.asarray(list(values), float)]


def thin(count: int, points: int = POINTS) -> np.ndarray:
    """At most `points` indices of `count`, evenly spaced, first and last included."""
    return np.unique(np.linspace(0, count - 1, min(points, count)).round().astype(int)) if count else np.array([], int)


def _line(rows: pd.DataFrame, x: str, method: str, names: list[str], name: str, dash: str) -> list[dict[str, Any]]:
    """The mean as a line and, where there are several runs, least to greatest as a band."""
    rows = rows.iloc[thin(len(rows))]
    chosen = look(method, names)
    colour, at = chosen["colour"], short(rows[x])
    marker = {"color": colour, "symbol": chosen["symbol"], "size": 6, "maxdisplayed": 7}
    trace = {"x": at, "y": short(rows["mean"]), "name": name, "meta": method, "mode": "lines+markers", "marker": marker}
    traces: list[dict[str, Any]] = [{**trace, "line": {"color": colour, "dash": dash, "width": 1.8}}]
    if rows["n"].max() > 1:
        edge = short(rows["high"]) + short(rows["low"])[::-1]
        band = {"x": at + at[::-1], "y": edge, "fill": "toself", "fillcolor": colour, "opacity": 0.15, "meta": method}
        traces.append({**band, "line": {"width": 0}, "mode": "lines", "hoverinfo": "skip"})
    return traces


def _panel(title: str, x: str, y: str, traces: list[dict[str, Any]], **layout: Any) -> Panel:
    axes = {"xaxis": {"title": {"text": x}}, "yaxis": {"title": {"text": y}}}
    return {"title": title, "data": traces, "layout": {**axes, **layout}}


def curves(frame: pd.DataFrame, names: list[str]) -> list[Panel]:
    """Figures 1 and 5: a panel for each setting and batch size."""
    panels = []
    for setting in dict.fromkeys(frame["setting"]):
        for regime, size in plotted.sizes(frame, setting).items():
            part = frame[(frame["setting"] == setting) & (frame["regime"] == regime)]
            traces = []
            for (method, quantity), rows in part.groupby(["method", "quantity"], sort=False):
                if quantity in CURVES:
                    label, dash = CURVES[str(quantity)]
                    traces += _line(rows, "epoch", str(method), names, f"{method}, {label}", dash)
            alphas = sorted(set(part[part["quantity"] == "alpha"]["mean"]))
            lines = [
                {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": a, "y1": a, "line": {"width": 1}}
                for a in alphas
            ]
            panels.append(_panel(f"{plotted.title(setting)}, {size}", "epoch", "accuracy, gap", traces, shapes=lines))
    return panels


def gradients(frame: pd.DataFrame, names: list[str]) -> list[Panel]:
    """Figures 2 and 6: for each setting norm against gap on both splits, both norms by epoch, and
    rho."""
    panels: list[Panel] = []
    for setting in dict.fromkeys(frame["setting"]):
        part = frame[frame["setting"] == setting]
        sizes, title = plotted.sizes(frame, setting), plotted.title(setting)
        start = len(panels)
        for number, (letter, (split, column)) in enumerate(zip("ab", figure2.PARTS.items(), strict=True)):
            against: list[dict[str, Any]] = []
            series: list[dict[str, Any]] = []
            for (method, regime), rows in part.groupby(["method", "regime"], sort=False):
                name = f"{method}, {sizes[str(regime)]}"
                against.append(_path(rows, column, str(method), names, name, REGIME_DASH[str(regime)]))
                chosen = rows[rows["quantity"] == column]
                series += _line(chosen, "epoch", str(method), names, name, REGIME_DASH[str(regime)])
            norm = f"{split} gradient norm"
            path = _panel(f"{title} ({letter}) {split}", norm, "generalization gap", against, hovermode="closest")
            panels.insert(start + number, path)
            panels.append(_panel(f"{title}, {split} by epoch", "epoch", norm, series))
        panels.append(_correlations(part, names, sizes, title))
    return panels


def _path(rows: pd.DataFrame, column: str, method: str, names: list[str], name: str, dash: str) -> dict[str, Any]:
    wide = rows[rows["epoch"].notna()].pivot(index="epoch", columns="quantity", values="mean").sort_index()
    wide = wide.iloc[thin(len(wide))]
    style_ = look(method, names)
    sizes = [3] * (len(wide) - 1) + [9]  # the last evaluation stands out
    return {
        "x": short(wide[column]),
        "y": short(wide["gap"]),
        "text": [f"epoch {epoch:g}" for epoch in wide.index],
        "name": name,
        "meta": method,
        "mode": "lines+markers",
        "line": {"color": style_["colour"], "dash": dash, "width": 0.8},
        "marker": {"color": style_["colour"], "symbol": style_["symbol"], "size": sizes},
    }


def _correlations(part: pd.DataFrame, names: list[str], sizes: dict[str, str], title: str) -> Panel:
    traces = []
    for split in figure2.PARTS:
        for method in names:
            for regime, size in sizes.items():
                chosen = (part["method"] == method) & (part["regime"] == regime) & (part["quantity"] == f"rho_{split}")
                for row in part[chosen & part["mean"].notna()].to_dict("records"):
                    colour, symbol = style.look(method, names)[0], look(method, names)["symbol"]
                    symbol += "" if regime == REGIMES[0] else "-open"
                    marker = {"color": colour, "size": 9, "symbol": symbol}
                    rho, low, high = short([row["mean"], row["low"], row["high"]])
                    trace = {"x": [rho], "y": [f"{split}, {method}, {size}"], "meta": method, "mode": "markers"}
                    trace |= {"name": f"{row['n']} run(s)", "marker": marker}
                    if rho is not None and low is not None and high is not None:
                        ends = {"type": "data", "symmetric": False, "array": [high - rho], "arrayminus": [rho - low]}
                        trace["error_x"] = {**ends, "color": colour}
                    traces.append(trace)
    zero = {"type": "line", "yref": "paper", "x0": 0, "x1": 0, "y0": 0, "y1": 1, "line": {"width": 1}}
    layout: dict[str, Any] = {"hovermode": "closest", "height": 420, "shapes": [zero]}
    panel = _panel(f"{title}, rank correlation with the gap", "Spearman's rho", "", traces, **layout)
    panel["layout"]["xaxis"]["range"] = [-1.05, 1.05]
    panel["layout"]["yaxis"] |= {"autorange": "reversed", "type": "category", "automargin": True}
    return panel


def hessian(frame: pd.DataFrame, names: list[str]) -> list[Panel]:
    """Figure 3: a panel for each split, a bar for each method and batch size, a point a seed."""
    panels = []
    axis = _eigenvalue_axis(frame)
    for setting in dict.fromkeys(frame["setting"]):
        sizes = plotted.sizes(frame, setting)
        for part, of_part in frame.groupby("part", sort=False):
            traces: list[dict[str, Any]] = []
            for (method, regime), rows in of_part.groupby(["method", "regime"], sort=False):
                colour, size = style.look(str(method), names)[0], sizes[str(regime)]
                pattern = {"shape": "" if regime == REGIMES[0] else "/"}
                place = f"{method}<br>{size}"
                bar = {"type": "bar", "x": [place], "y": short(rows["mean"].iloc[:1]), "meta": method}
                traces.append({**bar, "name": f"mean of {len(rows)}", "marker": {"color": colour, "pattern": pattern}})
                dots = {"x": [place] * len(rows), "y": short(rows["eigenvalue"]), "mode": "markers", "meta": method}
                labels = [
                    f"seed {s}{'' if c else ', not converged'}"
                    for s, c in zip(rows["seed"], rows["converged"], strict=True)
                ]
                marker = {"color": "#888888", "size": 6, "line": {"width": 1, "color": "#ffffff"}}
                traces.append({**dots, "name": "", "text": labels, "marker": marker})
            order = [f"{method}<br>{size}" for method in names for size in sizes.values()]
            panel = _panel(
                f"{plotted.title(setting)}, {part} loss", "", "largest eigenvalue", traces, hovermode="closest"
            )
            panel["layout"]["xaxis"] |= {"categoryorder": "array", "categoryarray": order}
            panel["layout"]["yaxis"] |= axis
            panels.append(panel)
    return panels


def _eigenvalue_axis(frame: pd.DataFrame) -> Panel:
    """Logarithmic, with ticks 1, 2, 5, 10, ..., where means differ widely and no point would
    vanish."""
    low, high = float(frame["eigenvalue"].min()), float(frame["eigenvalue"].max())
    if low <= 0 or frame["mean"].max() / frame["mean"].min() <= figure3.WIDE:
        return {"type": "linear"}
    ends = [float(np.log10(low / 1.6)), float(np.log10(high * 1.3))]
    decades = range(int(np.floor(ends[0])), int(np.ceil(ends[1])) + 1)
    ticks = [float(f"{digit}e{decade}") for decade in decades for digit in (1, 2, 5)]
    title = {"text": "largest eigenvalue (log scale)"}
    return {
        "type": "log",
        "range": ends,
        "tickvals": ticks,
        "ticktext": [f"{tick:g}" for tick in ticks],
        "title": title,
    }


def spectra(frame: pd.DataFrame, names: list[str]) -> list[Panel]:
    """Figure 4: a panel for each weight matrix."""
    panels = []
    sizes = plotted.sizes(frame, str(frame["setting"].iloc[0]))
    for layer, of_layer in frame.groupby("layer", sort=False):
        traces: list[dict[str, Any]] = []
        for (method, regime), rows in of_layer.groupby(["method", "regime"], sort=False):
            name = f"{method}, {sizes[str(regime)]}"
            traces += _line(rows, "index", str(method), names, name, REGIME_DASH[str(regime)])
        panels.append(_panel(str(layer), "index", "singular value", traces, hovermode="x unified"))
    return panels
