"""Figure 3: the largest eigenvalue of the Hessian on training and on test data, for each method and
batch size."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from sns.analysis.cells import REGIMES, Results
from sns.analysis.figures import plotted, style
from sns.analysis.stats import summarise
from sns.common.errors import RecordError

NUMBER = 3
PARTS = ("train", "test")
COLUMNS = [*plotted.KEYS, "part", "seed", "eigenvalue", "converged", "mean", "sd", "n"]
WIDE = 20  # ratio of the largest to the smallest mean from which the axis is logarithmic
TEXT = (
    "Figure 3. Largest eigenvalue of the Hessian of the unregularised loss with respect to all parameters at the end "
    "of training, on training and on test data: bars are means over seeds, points the seeds, hollow where the power "
    "iteration did not converge. The axis is logarithmic where the means differ more than twentyfold."
)


def compute(grid: Results, setting: str | None = None) -> pd.DataFrame:
    """A row for each run and part: eigenvalue (nats per squared unit of the parameters) with the
    cell's mean, sd and n.

    Raises RecordError where no run of the setting measured it.
    """
    name = plotted.main_setting(grid, setting)
    rows: list[dict[str, Any]] = []
    without = 0
    for cell in plotted.cells(grid, [name]):
        for part in PARTS:
            found = {
                r.result.seed: entry
                for r in cell.finished
                if (entry := _entry(r.result.measured.get("hessian"), part)) is not None
            }
            summary = summarise(entry["eigenvalue"] for entry in found.values())
            without += len(cell.finished) - len(found) if part == "train" else 0
            for seed, entry in found.items():
                numbers = {"eigenvalue": entry["eigenvalue"], "converged": entry.get("converged", True)}
                spread = {"mean": summary.mean, "sd": summary.sd, "n": summary.n}
                rows.append({**plotted.key(cell), "part": part, "seed": seed, **numbers, **spread})
    if not rows:
        raise RecordError(
            f"no run of {name} measured the Hessian; train with measure.hessian=true or measure checkpoints"
        )
    frame = pd.DataFrame(rows, columns=COLUMNS)
    faults = [f"{without} run(s) without this measurement"] if without else []
    frame.attrs["caption"] = plotted.caption(TEXT + plotted.instead(name), grid, [name], faults)
    return frame


def _entry(hessian: dict[str, Any] | None, part: str) -> dict[str, Any] | None:
    entry = None if hessian is None else hessian.get(part)
    return entry if isinstance(entry, dict) and isinstance(entry.get("eigenvalue"), (int, float)) else None


def draw(frame: pd.DataFrame) -> Figure:
    """The figure from `compute`'s rows: a panel a part, a pair of bars a method."""
    figure = style.new(8.0, 4.0)
    names = plotted.methods(frame)
    setting = str(frame["setting"].iloc[0])
    batch = plotted.sizes(frame, setting)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, part in zip(panels, PARTS, strict=True):
        _bars(axes, frame[frame["part"] == part], names, list(batch))
        axes.set_title(f"{plotted.title(setting)}: {part} loss")
    panels[0].set_ylabel("largest Hessian eigenvalue")
    # A seed with a negative eigenvalue has no place on a logarithmic axis, and is never dropped.
    if frame["eigenvalue"].min() > 0 and frame["mean"].max() / frame["mean"].min() > WIDE:
        panels[0].set_yscale("log")
    handles: list[Any] = [
        Patch(facecolor="#999999", edgecolor="black", hatch="" if regime == "small" else "///", label=batch[regime])
        for regime in batch
    ]
    handles.append(Line2D([], [], color="black", ls="", marker="o", ms=3, label="one seed"))
    return style.finish(figure, handles, frame.attrs.get("caption", ""))


def _bars(axes: Axes, part: pd.DataFrame, names: list[str], regimes: list[str]) -> None:
    for x, method in enumerate(names):
        for regime in regimes:
            rows = part[(part["method"] == method) & (part["regime"] == regime)]
            place = x + 0.4 * (REGIMES.index(regime) - 0.5)
            if rows.empty:
                axes.text(
                    place, 0.02, "no value", transform=axes.get_xaxis_transform(), rotation=90, ha="center", fontsize=7
                )
                continue
            colour, _ = style.look(method, names)
            hatch = "" if regime == "small" else "///"
            face = colour if regime == "small" else "white"
            axes.bar(place, rows["mean"].iloc[0], 0.36, facecolor=face, edgecolor=colour, hatch=hatch, zorder=2)
            for step, (value, done) in enumerate(zip(rows["eigenvalue"], rows["converged"], strict=True)):
                offset = 0.04 * (step - (len(rows) - 1) / 2)
                fill = "#888888" if done else "white"
                axes.plot(place + offset, value, "o", ms=3.2, mfc=fill, mec="black", mew=0.6, zorder=3)
    axes.set_xticks(range(len(names)), names)
    axes.grid(visible=False, axis="x")
