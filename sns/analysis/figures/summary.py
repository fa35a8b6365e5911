"""The summary: each method against vanilla at the last evaluation, as a figure and as a short
table."""

from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sns.analysis.cells import REGIMES, Cell, Results, methods_of, title_of
from sns.analysis.figures import plotted, style, traces
from sns.analysis.stats import paired, summarise
from sns.common.errors import RecordError

TITLE = "Summary"
BASE = "vanilla"
QUANTITIES = {"test_accuracy": "test accuracy", "gap": "training - test accuracy"}
COLUMNS = [*plotted.KEYS, "quantity", "mean", "sd", "n", "difference", "low", "high", "pairs"]
CAPTION = (
    "The last evaluation of every cell less that of vanilla at the same seed, in points: mean over seeds and 95% "
    "interval of the paired t test (none with one seed). Filled: small batch; open: large batch."
)
Row = dict[str, Any]


def compute(results: Results, setting: str | None = None) -> pd.DataFrame:
    """Rows COLUMNS: mean and sd over seeds of QUANTITIES (fractions) in each cell, its difference
    to vanilla's and the interval of that difference over the seeds that both have.

    `setting` limits it to one. RecordError where no run trained to the end.
    """
    settings = list(results.settings) if setting is None else [plotted.main_setting(results, setting)]
    rows = [row for cell in plotted.cells(results, settings) for row in _rows(results, cell)]
    if not rows:
        raise RecordError("no run trained to the end: there is nothing to summarise")
    frame = pd.DataFrame(rows, columns=COLUMNS).astype(dict.fromkeys(("sd", "difference", "low", "high"), float))
    frame.attrs["caption"] = plotted.caption(CAPTION, results, settings)
    return frame


def _rows(results: Results, cell: Cell) -> Iterator[Row]:
    base = results.cell(cell.setting, BASE, cell.regime)
    for quantity in QUANTITIES:
        own, other = (_by_seed(each, quantity) for each in (cell, base))
        level, against = summarise(own.values()), paired(own, other)
        numbers = {"mean": level.mean, "sd": level.sd, "n": level.n, "difference": against.mean}
        numbers |= {"low": against.low, "high": against.high, "pairs": against.n}
        yield {**plotted.key(cell), "quantity": quantity, **numbers}


def _by_seed(cell: Cell, quantity: str) -> dict[int, float]:
    return {record.result.seed: record.result.final[quantity] for record in cell.finished}


def _places(frame: pd.DataFrame) -> list[tuple[str, str, int]]:
    """Setting, regime and batch size of each place on the horizontal axis."""
    return list(dict.fromkeys(zip(frame["setting"], frame["regime"], frame["batch_size"], strict=True)))


def _points(part: pd.DataFrame, names: list[str]) -> Iterator[tuple[float, Row]]:
    """Horizontal position and row of each difference, in points; methods stand side by side."""
    others = [name for name in names if name != BASE]
    places = _places(part)
    for row in part[part["method"] != BASE].dropna(subset=["difference"]).to_dict("records"):
        shift = (others.index(row["method"]) - (len(others) - 1) / 2) * 0.6 / len(others)
        x = places.index((row["setting"], row["regime"], row["batch_size"])) + shift
        points = {"mean": 100 * row["difference"], "low": 100 * row["low"], "high": 100 * row["high"]}
        yield x, {**{str(key): value for key, value in row.items()}, **points}


def _short(setting: str, line: str) -> str:
    return title_of(setting).split(" at ")[0].replace(", ", line)


def draw(frame: pd.DataFrame) -> Figure:
    """A panel for each quantity, the cells side by side, vanilla the line at zero."""
    figure = style.new(9.0, 3.6)
    names = methods_of(frame)
    for axes, (quantity, label) in zip(figure.subplots(1, len(QUANTITIES)), QUANTITIES.items(), strict=True):
        _panel(axes, frame[frame["quantity"] == quantity], names)
        axes.set_title(f"{label}, against {BASE}")
        axes.set_ylabel("points")
    return style.finish(figure, style.method_handles(names), frame.attrs["caption"])


def _panel(axes: Axes, part: pd.DataFrame, names: list[str]) -> None:
    axes.axhline(0.0, color=style.look(BASE, names)[0], lw=1.0)
    for x, row in _points(part, names):
        colour, marker = style.look(row["method"], names)
        axes.plot([x, x], [row["low"], row["high"]], color=colour)
        face = colour if row["regime"] == REGIMES[0] else "white"
        axes.plot(x, row["mean"], color=colour, marker=marker, ms=5, mfc=face, ls="none")
    places = _places(part)
    axes.set_xticks(range(len(places)), [f"B={size}" for *_, size in places])
    names_at = {setting: [i for i, place in enumerate(places) if place[0] == setting] for setting, *_ in places}
    middles = [sum(at) / len(at) for at in names_at.values()]
    axes.set_xticks(middles, [_short(setting, "\n") for setting in names_at], minor=True)
    axes.tick_params(axis="x", which="minor", length=0, pad=14, labelsize=6.5)
    axes.grid(axis="x", visible=False, which="both")


def panels(frame: pd.DataFrame) -> list[traces.Panel]:
    """A panel for each quantity, as drawn; the names of the cells appear under the pointer too."""
    names, places = methods_of(frame), _places(frame)
    ticks = [f"B={size}<br>{_short(setting, '<br>')}" for setting, _, size in places]
    xaxis: Row = {"tickvals": list(range(len(places))), "ticktext": ticks, "tickfont": {"size": 10}}
    xaxis |= {"range": [-0.5, len(places) - 0.5], "showgrid": False, "zeroline": False}
    layout = {"xaxis": xaxis, "height": 300, "shapes": [traces.rule("y", 0)], "hovermode": "closest"}
    made = []
    for quantity, label in QUANTITIES.items():
        points = []
        for x, row in _points(frame[frame["quantity"] == quantity], names):
            where = f"{row['method']}, {_short(row['setting'], ', ')}, B={row['batch_size']}"
            hover = f"{where}<br>%{{y:+.2f}} points, {row['pairs']} seed(s)<extra></extra>"
            points.append({**traces.interval("y", row, names), "x": [round(x, 3)], "hovertemplate": hover})
        made.append(traces.panel(f"{label[0].upper()}{label[1:]}, against {BASE}", "", "points", points, **layout))
    return [panel for panel in made if panel["data"]]  # none without a run of vanilla


def to_markdown(frame: pd.DataFrame) -> str:
    """A line for each setting and batch size: accuracy ± sd and, after a slash, the gap, in
    percent, bold where best."""
    names = methods_of(frame)
    lines = ["| test accuracy ± sd / gap, % | B | n | " + " | ".join(names) + " |", "|---" * (len(names) + 3) + "|"]
    for (setting, _, size), part in frame.groupby(["setting", "regime", "batch_size"], sort=False):
        rows: list[Row] = part.to_dict("records")  # type: ignore[assignment]
        runs = sorted({row["n"] for row in rows})
        span = f"{runs[0]}" if len(runs) == 1 else f"{runs[0]}-{runs[-1]}"
        accuracy = _written([row for row in rows if row["quantity"] == "test_accuracy"], max)
        gap = _written([row for row in rows if row["quantity"] == "gap"], min)
        line = [f"{accuracy[name]} / {gap[name]}" if name in accuracy else "not run" for name in names]
        lines.append(f"| {title_of(str(setting))} | {size} | {span} | {' | '.join(line)} |")
    return "\n".join([*lines, ""])


def _written(rows: list[Row], best: Callable[[list[float]], float]) -> dict[str, str]:
    """Each method's mean in percent, an accuracy with its sd; the best at one decimal in bold."""
    percent = {row["method"]: round(100 * row["mean"], 1) for row in rows}
    chosen = best(list(percent.values()))
    texts = {}
    for row in rows:
        spread = row["quantity"] == "test_accuracy" and pd.notna(row["sd"])
        text = f"{percent[row['method']]:.1f}" + (f" ± {100 * row['sd']:.1f}" if spread else "")
        texts[row["method"]] = f"**{text}**" if percent[row["method"]] == chosen else text
    return texts
