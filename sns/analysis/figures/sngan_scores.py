"""SN-GAN: the score of every run by Adam setting and method (the paper's first figure)."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sns.analysis.cells import Results, methods_of, title_of
from sns.analysis.figures import plotted, style, traces
from sns.analysis.sngan import runs
from sns.common.errors import RecordError

TITLE = "Score by Adam setting"
OPTIONAL = True  # of GANs only
COLUMNS = ["setting", "optimizer", "method", "seed", "state", "quantity", "label", "value", "x"]
BROKEN = {"far": "x", "collapsed": "+", "diverged": "1"}  # markers beside the filled ones
CAPTION = (
    "Each run at the end of training, by Adam setting (A to C: rates 1e-4 and 2e-4; D to F: 1e-3) and method. Filled: "
    "a run that trained; line: mean over the seeds with a value. The others broke down (results/sngan/claims.yaml): x "
    "beyond the dotted line, twice the reference distance; + collapsed samples; three-pointed: diverged, drawn at the "
    "worst value of its panel. Better samples have a lower distance and a higher score."
)


def compute(results: Results, setting: str | None = None) -> pd.DataFrame:
    """Rows COLUMNS: `distance` and `score` of each run, by which the rules judge, and its place
    `x`; a diverged run has the worst value of its panel. attrs hold the caption and, by setting,
    the distance `bars` beyond which a run broke down.

    `setting` limits it to one. RecordError where there is no run of a GAN.
    """
    frame = runs.compute(results)
    names = [name for name in dict.fromkeys(frame["setting"]) if setting in (None, name)]
    if not names:
        raise RecordError(
            f"there is no run of {setting}; settings with runs: {', '.join(dict.fromkeys(frame['setting']))}"
        )
    frame = frame[frame["setting"].isin(names)]
    methods = methods_of(frame.sort_values("method", key=runs.place, kind="stable"))
    width = 0.84 / len(methods)
    groups = frame["optimizer"].map([*runs.letters(frame)].index)
    frame = frame.assign(x=groups + (frame["method"].map(methods.index) - (len(methods) - 1) / 2) * width)
    parts = []
    for quantity, high_is_bad in (("distance", True), ("score", False)):
        values = runs.filled(frame[quantity], frame["setting"], high_is_bad)
        parts.append(frame.assign(quantity=quantity, label=frame.attrs[quantity], value=values)[COLUMNS])
    bars = {name: 2 ** (runs.reference(frame[frame["setting"] == name]) + runs.BAR) for name in names}
    shown = [record for record in runs.records(results) if record.result.setting in names]
    caption = f"{CAPTION}\n{plotted.runs_shown(shown, names)}"
    joined = pd.concat(parts, ignore_index=True).dropna(subset=["value"])
    if joined.empty:
        raise RecordError(f"no run of {', '.join(names)} has a Frechet distance or a score")
    joined.attrs.update(caption=caption, bars=bars, methods=methods, width=width)
    return joined


def _panels(frame: pd.DataFrame) -> Iterator[tuple[str, str, str, pd.DataFrame]]:
    """Setting, quantity, label and rows of each panel."""
    for (setting, quantity, label), part in frame.groupby(["setting", "quantity", "label"], sort=False):
        yield str(setting), str(quantity), str(label), part


def draw(frame: pd.DataFrame) -> Figure:
    """A wide panel for each setting and quantity, the Adam settings side by side."""
    several = list(_panels(frame))
    figure = style.new(10.0, 0.9 + 2.4 * len(several))
    for axes, (setting, quantity, label, part) in zip(
        figure.subplots(len(several), 1, squeeze=False).flat, several, strict=True
    ):
        _panel(axes, part, frame.attrs["methods"], frame.attrs["width"])
        if quantity == "distance":
            axes.set_yscale("log")
            axes.axhline(frame.attrs["bars"][setting], color="#555555", ls=":", lw=1.0)
        axes.set(title=title_of(setting), ylabel=label)
    handles = [*style.method_handles(frame.attrs["methods"])]
    handles += [
        Line2D([], [], color="#555555", marker=mark, ls="none", label=f"broke down: {name}")
        for name, mark in BROKEN.items()
    ]
    return style.finish(figure, handles, frame.attrs["caption"], columns=6)


def _panel(axes: Axes, part: pd.DataFrame, names: list[str], width: float) -> None:
    for (method, at), own in part.groupby(["method", "x"], sort=False):
        x = float(str(at))
        colour, marker = style.look(str(method), names)
        mean = own.loc[own["state"] != "diverged", "value"].mean()
        axes.plot([x - 0.4 * width, x + 0.4 * width], [mean, mean], color=colour, lw=1.4, alpha=0.45)
        for state, rows in own.groupby("state"):
            mark = BROKEN.get(str(state), marker)
            axes.plot(rows["x"], rows["value"], color=colour, marker=mark, ms=4 if mark == marker else 5.5, ls="none")
    _groups(axes, part)


def _groups(axes: Axes, part: pd.DataFrame) -> None:
    places = {round(x): runs.ADAM.get(name, name) for x, name in zip(part["x"], part["optimizer"], strict=True)}
    axes.set_xticks([*places], [*places.values()])
    axes.set_xlim(min(places) - 0.5, max(places) + 0.5)
    axes.grid(axis="x", visible=False)
    for edge in [*places][1:]:
        axes.axvline(edge - 0.5, color="#dddddd", lw=0.8)


def panels(frame: pd.DataFrame) -> list[traces.Panel]:
    """The same for the report's page: a trace for each method; seed and state under the pointer."""
    made = []
    for setting, quantity, label, part in _panels(frame):
        points: list[traces.Trace] = []
        for method, own in part.groupby("method", sort=False):
            chosen = traces.look(str(method), frame.attrs["methods"])
            symbols = [chosen["symbol"] if state == "ok" else "x-thin" for state in own["state"]]
            line = {"width": 1.5, "color": chosen["colour"]}
            marker: dict[str, Any] = {"color": chosen["colour"], "symbol": symbols, "size": 8, "line": line}
            words = [
                f"{method}, {o}, seed {s}: {state}" for o, s, state in own[["optimizer", "seed", "state"]].to_numpy()
            ]
            trace = {"x": traces.short(own["x"]), "y": traces.short(own["value"]), "text": words, "marker": marker}
            points.append({**trace, "name": str(method), "meta": str(method), "mode": "markers"})
        places = {round(x): runs.ADAM.get(name, name) for x, name in zip(part["x"], part["optimizer"], strict=True)}
        layout: dict[str, Any] = {"xaxis": {"tickvals": [*places], "ticktext": [*places.values()], "showgrid": False}}
        if quantity == "distance":
            layout |= {"yaxis": {"type": "log"}, "shapes": [traces.rule("y", frame.attrs["bars"][setting])]}
        layout |= {"hovermode": "closest", "height": 340}
        made.append(traces.panel(f"{title_of(setting)}: {label}", "Adam setting", label, points, **layout))
    return made
