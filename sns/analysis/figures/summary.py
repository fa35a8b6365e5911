"""The whole grid at a glance: each method against vanilla at the last evaluation, as a figure and
as a short table."""

from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sns.analysis.cells import REGIMES, Cell, Results
from sns.analysis.figures import plotted, style
from sns.analysis.stats import paired, summarise
from sns.common.errors import RecordError

NUMBER = "summary"
BASE = "vanilla"
QUANTITIES = {"test_accuracy": "test accuracy", "gap": "training - test accuracy"}
COLUMNS = [*plotted.KEYS, "quantity", "mean", "sd", "n", "difference", "low", "high", "pairs"]
TEXT = (
    "the last evaluation of every cell less that of vanilla at the same seed, in points: mean over seeds and 95% "
    "interval of the paired t test (none with one seed); filled: small batch, open: large."
)


def compute(grid: Results, setting: str | None = None) -> pd.DataFrame:
    """Rows COLUMNS: mean and sd over seeds of QUANTITIES (fractions) in each cell, its difference
    to vanilla's and the interval of that difference over the seeds that both have.

    `setting` limits it to one. RecordError where no run ended well.
    """
    settings = list(grid.settings) if setting is None else [plotted.main_setting(grid, setting)]
    rows = [row for cell in plotted.cells(grid, settings) for row in _rows(grid, cell)]
    if not rows:
        raise RecordError("no run ended well: there is nothing to summarise")
    frame = pd.DataFrame(rows, columns=COLUMNS)
    frame.attrs["caption"] = plotted.caption(f"Summary: {TEXT}", grid, settings)
    return frame


def _rows(grid: Results, cell: Cell) -> Iterator[dict[str, Any]]:
    base = grid.cell(cell.setting, BASE, cell.regime)
    for quantity in QUANTITIES:
        own, other = (_by_seed(each, quantity) for each in (cell, base))
        level, against = summarise(own.values()), paired(own, other)
        yield {
            **plotted.key(cell),
            "quantity": quantity,
            "mean": level.mean,
            "sd": level.sd,
            "n": level.n,
            "difference": against.mean,
            "low": against.low,
            "high": against.high,
            "pairs": against.n,
        }


def _by_seed(cell: Cell, quantity: str) -> dict[int, float]:
    return {record.result.seed: record.result.final[quantity] for record in cell.finished}


def draw(frame: pd.DataFrame) -> Figure:
    """The figure from `compute`'s rows: a panel a quantity, the cells side by side, vanilla the
    line at zero."""
    figure = style.new(9.0, 3.6)
    names = plotted.methods(frame)
    for axes, (quantity, label) in zip(figure.subplots(1, len(QUANTITIES)), QUANTITIES.items(), strict=True):
        _panel(axes, frame[frame["quantity"] == quantity], names)
        axes.set_title(f"{label}, against {BASE}")
        axes.set_ylabel("points")
    return style.finish(figure, style.method_handles(names), frame.attrs.get("caption", ""))


def _panel(axes: Axes, part: pd.DataFrame, names: list[str]) -> None:
    places = list(dict.fromkeys(zip(part["setting"], part["regime"], part["batch_size"], strict=True)))
    axes.axhline(0.0, color=style.look(BASE, names)[0], lw=1.0)
    others = [name for name in names if name != BASE]
    for index, method in enumerate(others):
        colour, marker = style.look(method, names)
        shift = (index - (len(others) - 1) / 2) * 0.6 / max(1, len(others))
        for row in part[part["method"] == method].dropna(subset=["difference"]).to_dict("records"):
            x = places.index((row["setting"], row["regime"], row["batch_size"])) + shift
            if pd.notna(row["low"]):
                axes.plot([x, x], [100 * row["low"], 100 * row["high"]], color=colour)
            face = colour if row["regime"] == REGIMES[0] else "white"
            axes.plot(x, 100 * row["difference"], color=colour, marker=marker, ms=5, mfc=face, ls="none")
    axes.set_xticks(range(len(places)), [f"B={size}" for *_, size in places])
    names_at = {setting: [i for i, place in enumerate(places) if place[0] == setting] for setting, *_ in places}
    short = [plotted.title(setting).split(" at ")[0].replace(", ", "\n") for setting in names_at]
    axes.set_xticks([sum(at) / len(at) for at in names_at.values()], short, minor=True)
    axes.tick_params(axis="x", which="minor", length=0, pad=14, labelsize=6.5)
    axes.grid(axis="x", visible=False, which="both")


def to_markdown(frame: pd.DataFrame) -> str:
    """One line a setting and batch size: accuracy ± sd and, after a stroke, the gap, in percent,
    bold where best."""
    names = plotted.methods(frame)
    lines = ["| test accuracy ± sd / gap, % | B | n | " + " | ".join(names) + " |", "|---" * (len(names) + 3) + "|"]
    for (setting, _, size), part in frame.groupby(["setting", "regime", "batch_size"], sort=False):
        rows: list[dict[str, Any]] = part.to_dict("records")  # type: ignore[assignment]
        runs = sorted({row["n"] for row in rows})
        span = f"{runs[0]}" if len(runs) == 1 else f"{runs[0]}-{runs[-1]}"
        cells = {row["method"]: row for row in rows if row["quantity"] == "test_accuracy"}
        gaps = {row["method"]: row for row in rows if row["quantity"] == "gap"}
        written = _written(cells, max), _written(gaps, min)
        line = [f"{written[0][name]} / {written[1][name]}" if name in cells else "not run" for name in names]
        lines.append(f"| {plotted.title(str(setting))} | {size} | {span} | {' | '.join(line)} |")
    return "\n".join([*lines, ""])


def _written(rows: dict[str, dict[str, Any]], choose: Callable[[list[float]], float]) -> dict[str, str]:
    """Each method's mean in percent, an accuracy with its sd; those that `choose` takes, at one
    decimal, in bold."""
    percent = {name: round(100 * row["mean"], 1) for name, row in rows.items()}
    best = choose(list(percent.values()))
    texts = {}
    for name, row in rows.items():
        spread = row["quantity"] == "test_accuracy" and pd.notna(row["sd"])
        text = f"{percent[name]:.1f}" + (f" ± {100 * row['sd']:.1f}" if spread else "")
        texts[name] = f"**{text}**" if percent[name] == best else text
    return texts
