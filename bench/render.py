"""bench/README.md from the JSON files alone."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.line import ADDED, FASTER, SHARE, TIMES, Line
from bench.timing import Spread
from sns.analysis.claims.tables import markdown

TITLES = {
    "1": "Spectral penalty",
    "2": "Adversarial step",
    "3": "Input pipeline",
    "4": "End-to-end epoch",
    "5": "Distance to the floor",
    "6": "Hessian eigenvalue and operator norms",
    "7": "Analysis of all cells (synthetic records)",
    "8": "Share of evaluation at the settings' schedule",
    "9": "Start-up",
    "10": "Modes, precisions, pass sizes, packing, roofline, projection",
    "12": "An update of each method against vanilla",
    "13": "The same on a GAN's discriminator",
}
TABLES = ("12", "13")
HEAD = """# Benchmarks

    make bench                # CPU, under 10 minutes on two cores
    make bench DEVICE=cuda    # one GPU, under 10 minutes
    make bench ROWS=1,5       # only these sections; the others stay
    make bench SECONDS=240 OUT=bench.json   # ends after 240 s (540) and names the rows left out
    python bench/run.py --render            # this page again, from bench/results/*.json

Both sides of a comparison run in one process and alternate. Times are medians over the rounds. A
ratio is taken within each round; brackets show its range over the rounds. Images are random bytes
of the data sets' shapes. No test depends on a time. An entry reads: figure; our time / the other's;
target.
"""


def render(results: Path) -> str:
    """The page: a section for each hardware."""
    parts = [HEAD]
    for path in sorted(results.glob("*.json")):
        parts.append(_hardware(json.loads(path.read_text(encoding="utf-8"))))
    return "\n".join(parts)


def _hardware(tree: dict[str, Any]) -> str:
    environment = tree["environment"]
    packages = ", ".join(f"{name} {version}" for name, version in sorted(environment["packages"].items()) if version)
    facts = [f"Python {environment['python']}, {packages}", f"{environment['threads']} CPU threads"]
    facts += [f"CUDA {environment['cuda']}, cuDNN {environment['cudnn']}"] if environment["cuda"] else []
    rows = sorted(tree["rows"].items(), key=lambda item: int(item[0]))
    lines = [Line.from_dict(line) for _, row in rows for line in row["lines"]]
    verdicts = [line.hit for line in lines if line.hit is not None]
    text = [f"## {environment['device']}", "", "; ".join(facts) + ".", ""]
    text += [f"Targets: {sum(verdicts)} of {len(verdicts)} met.", ""]
    for number, row in rows:
        text += [f"### {number}. {TITLES[number]}", "", _when(row), ""]
        of_row = [Line.from_dict(line) for line in row["lines"]]
        text += _tabled(of_row) if number in TABLES else _listed(of_row)
    return "\n".join(text)


def _when(row: dict[str, Any]) -> str:
    dirty = ", with changes not committed" if row["dirty"] else ""
    return f"{row['date']}, commit {str(row['commit'])[:10]}{dirty}, load {row['load']}, {row['seconds']:.0f} s."


def _tabled(lines: list[Line]) -> list[str]:
    """A row for each method, a column for each network and batch size."""
    cells, vanilla = dict[str, dict[str, str]](), dict[str, str]()
    for line in lines:
        method, _, place = line.what.partition(" update, ")
        shown = line.note if line.figure is None else headline(line).replace("x the time", "")
        cells.setdefault(method, {})[place] = shown
        if line.theirs is not None:
            vanilla[place] = _quantity(replace(line.theirs, count=1), line.unit)
    places = list(dict.fromkeys(place for own in cells.values() for place in own))
    named = [*cells.items(), ("an update of vanilla", vanilla)]
    table = markdown(["method", *places], [[name, *(own.get(place, "") for place in places)] for name, own in named])
    notes = sorted({line.note for line in lines if line.figure is not None})
    return [*table.splitlines(), "", f"Times those of vanilla ({'; '.join(notes)}).", ""]


def _listed(lines: list[Line]) -> list[str]:
    """A list entry for each line; a note that several lines share follows once."""
    shared = [note for note, count in Counter(line.note for line in lines if line.note).items() if count > 1]
    marks = {note: r"\*" * number for number, note in enumerate(shared, 1)}
    notes = "; ".join(f"{mark} {note}" for note, mark in marks.items())
    return [*(_entry(line, marks) for line in lines), "", *([f"{notes}.", ""] if notes else [])]


def _entry(line: Line, marks: dict[str, str]) -> str:
    times = [_quantity(replace(value, count=1), line.unit) for value in (line.ours, line.theirs) if value is not None]
    figure = f"**{headline(line)}**" if line.figure is not None else ""
    target = ""
    if line.hit is not None:
        bound = f"{'≥' if line.kind == FASTER else '≤'} {line.target:g}"
        target = f"{bound} {'hit' if line.hit else '**missed**'}"
    note = "" if line.note in marks else line.note
    what = f"{line.what}, against {line.against}" if line.against else line.what
    return f"- {what}{marks.get(line.note, '')}: " + "; ".join(filter(None, [figure, " / ".join(times), target, note]))


def headline(line: Line) -> str:
    """The figure with its range, such as "12.1x faster [11.0, 13.2]"."""
    figure = line.figure
    if figure is None:
        return ""
    unit = {FASTER: "x faster", TIMES: "x the time", ADDED: "% more time", SHARE: "%"}.get(line.kind, f" {line.kind}")
    text = f"{_short(figure.median)}{unit}"
    return text if figure.count == 1 else f"{text} [{_short(figure.low)}, {_short(figure.high)}]"


def _quantity(value: Spread | None, unit: str) -> str:
    if value is None:
        return ""
    prefix, scale = _scale(value.median, unit)
    low, high = (_short(v / scale) for v in (value.low, value.high))
    middle = f"{_short(value.median / scale)} {prefix}{unit}"
    return middle if value.count == 1 else f"{middle} [{low}, {high}]"


def _scale(value: float, unit: str) -> tuple[str, float]:
    if unit in ("FLOP/s", "B/s"):
        return ("T", 1e12) if value >= 1e12 else ("G", 1e9)
    if unit == "s" and abs(value) < 1:
        return ("m", 1e-3) if abs(value) >= 1e-3 else ("µ", 1e-6)
    return "", 1.0


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def printed(line: Line) -> str:
    """One line for the terminal."""
    against = f" | {line.against}" if line.against else ""
    both = " | ".join(text for text in (_quantity(line.ours, line.unit), _quantity(line.theirs, line.unit)) if text)
    verdict = "" if line.hit is None else f" ({'hit' if line.hit else 'MISSED'}, target {line.target:g})"
    return f"{line.row:>2} {line.what}{against}: {both} {headline(line)}{verdict} {line.note}".rstrip()
