"""Figure 3: the largest eigenvalue of the Hessian on training and on test data, for each method and
batch size."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from sns.analysis.cells import REGIMES, Results, methods_of, title_of
from sns.analysis.figures import plotted, style, traces
from sns.analysis.stats import summarise
from sns.common.errors import RecordError

TITLE = "Largest Hessian eigenvalue"
PARTS = ("train", "test")
COLUMNS = [*plotted.KEYS, "part", "seed", "eigenvalue", "converged", "mean", "sd", "n"]
WIDE = 20  # ratio of the largest to the smallest mean from which the axis is logarithmic
CAPTION = (
    "Largest eigenvalue of the Hessian of the unregularised loss with respect to all parameters at the end of "
    "training, on training and on test data. Bars: means over seeds, hatched for the large batch. Points: the seeds, "
    "hollow where the iteration did not converge. The axis is logarithmic where the means differ more than "
    "twentyfold."
)


def compute(results: Results, setting: str | None = None) -> pd.DataFrame:
    """A row for each run and part: eigenvalue (nats per squared unit of the parameters) with the
    cell's mean, sd and n.

    Raises RecordError where no run of the setting measured it.
    """
    name = plotted.main_setting(results, setting)
    rows: list[dict[str, Any]] = []
    without = 0
    for cell in plotted.cells(results, [name]):
        for part in PARTS:
            measured = {r.result.seed: (r.result.measured.get("hessian") or {}).get(part) or {} for r in cell.finished}
            entries = {seed: entry for seed, entry in measured.items() if entry.get("eigenvalue") is not None}
            summary = summarise(entry["eigenvalue"] for entry in entries.values())
            without += len(cell.finished) - len(entries) if part == "train" else 0
            for seed, entry in entries.items():
                numbers = {"eigenvalue": entry["eigenvalue"], "converged": entry.get("converged", True)}
                spread = {"mean": summary.mean, "sd": summary.sd, "n": summary.n}
                rows.append({**plotted.key(cell), "part": part, "seed": seed, **numbers, **spread})
    if not rows:
        raise RecordError(
            f"no run of {name} measured the Hessian; train with measure.hessian=true or measure checkpoints"
        )
    frame = pd.DataFrame(rows, columns=COLUMNS)
    faults = [f"{without} run(s) without this measurement"] if without else []
    frame.attrs["caption"] = plotted.caption(CAPTION + plotted.instead(name), results, [name], faults)
    return frame


def _logarithmic(frame: pd.DataFrame) -> bool:
    """Whether the means differ widely. A negative eigenvalue has no place on a logarithmic axis,
    and is never dropped."""
    return bool(frame["eigenvalue"].min() > 0 and frame["mean"].max() / frame["mean"].min() > WIDE)


def draw(frame: pd.DataFrame) -> Figure:
    """A panel for each part, a pair of bars for each method."""
    figure = style.new(8.0, 4.0)
    names, sizes = methods_of(frame), plotted.sizes(frame)
    grid = figure.subplots(1, 2, sharey=True)
    for axes, part in zip(grid, PARTS, strict=True):
        _bars(axes, frame[frame["part"] == part], names, list(sizes))
        axes.set_title(f"{title_of(str(frame['setting'].iloc[0]))}: {part} loss")
    grid[0].set_ylabel("largest Hessian eigenvalue")
    if _logarithmic(frame):
        grid[0].set_yscale("log")
    handles: list[Any] = [
        Patch(facecolor="#999999", edgecolor="black", hatch="" if regime == "small" else "///", label=size)
        for regime, size in sizes.items()
    ]
    handles.append(Line2D([], [], color="black", ls="", marker="o", ms=3, label="one seed"))
    return style.finish(figure, handles, frame.attrs["caption"])


def _bars(axes: Axes, part: pd.DataFrame, names: list[str], regimes: list[str]) -> None:
    for x, method in enumerate(names):
        for regime in regimes:
            rows = part[(part["method"] == method) & (part["regime"] == regime)]
            place = x + 0.4 * (REGIMES.index(regime) - 0.5)
            if rows.empty:
                above = axes.get_xaxis_transform()
                axes.text(place, 0.02, "no value", transform=above, rotation=90, ha="center", fontsize=7)
                continue
            colour, _ = style.look(method, names)
            hatch = "" if regime == "small" else "///"
            face = colour if regime == "small" else "white"
            axes.bar(place, rows["mean"].iloc[0], 0.36, facecolor=face, edgecolor=colour, hatch=hatch, zorder=2)
            at = place + 0.04 * (np.arange(len(rows)) - (len(rows) - 1) / 2)
            fill = ["#888888" if converged else "white" for converged in rows["converged"]]
            axes.scatter(at, rows["eigenvalue"], s=10, c=fill, edgecolors="black", linewidths=0.6, zorder=3)
    axes.set_xticks(range(len(names)), names)
    axes.grid(visible=False, axis="x")


def panels(frame: pd.DataFrame) -> list[traces.Panel]:
    """A panel for each part, a bar for each method and batch size, a point for each seed."""
    names, sizes = methods_of(frame), plotted.sizes(frame)
    order = [f"{method}<br>{size}" for method in names for size in sizes.values()]
    xaxis = {"categoryorder": "array", "categoryarray": order}
    title = title_of(str(frame["setting"].iloc[0]))
    made = []
    for part, of_part in frame.groupby("part", sort=False):
        bars: list[traces.Trace] = []
        for (method, regime), rows in of_part.groupby(["method", "regime"], sort=False):
            hatch = "" if regime == "small" else "/"
            bars += _bar(rows, str(method), f"{method}<br>{sizes[str(regime)]}", hatch, names)
        layout = {"xaxis": xaxis, "yaxis": _page_axis(frame), "hovermode": "closest"}
        made.append(traces.panel(f"{title}, {part} loss", "", "largest eigenvalue", bars, **layout))
    return made


def _bar(rows: pd.DataFrame, method: str, place: str, hatch: str, names: list[str]) -> list[traces.Trace]:
    bar = {"type": "bar", "x": [place], "y": traces.short(rows["mean"].iloc[:1]), "name": f"mean of {len(rows)}"}
    face = {"color": style.look(method, names)[0], "pattern": {"shape": hatch}}
    dots = {"x": [place] * len(rows), "y": traces.short(rows["eigenvalue"]), "mode": "markers", "name": ""}
    runs = zip(rows["seed"], rows["converged"], strict=True)
    labels = [f"seed {seed}{'' if converged else ', not converged'}" for seed, converged in runs]
    symbols = ["circle" if converged else "circle-open" for converged in rows["converged"]]
    marker = {"color": "#888888", "size": 6, "symbol": symbols, "line": {"width": 1, "color": "#ffffff"}}
    return [{**bar, "meta": method, "marker": face}, {**dots, "meta": method, "text": labels, "marker": marker}]


def _page_axis(frame: pd.DataFrame) -> dict[str, Any]:
    if not _logarithmic(frame):
        return {"type": "linear"}
    ends = traces.short(np.log10([frame["eigenvalue"].min() / 1.6, frame["eigenvalue"].max() * 1.3]))  # on every CPU
    title = {"text": "largest eigenvalue (log scale)"}
    return {"type": "log", "range": ends, "dtick": "D2", "title": title}  # D2: ticks at 1, 2, 5, 10, ...
