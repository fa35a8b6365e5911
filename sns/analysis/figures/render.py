"""The registry of figures, and the files of one: PNG, PDF, caption and plotted numbers.

A module of this package with `compute` and `draw` is a figure: a new file registers itself. The
scripts, the report and the tests take every figure from FIGURES.
"""

from pathlib import Path
from typing import Any, Protocol

import pandas as pd
from matplotlib.figure import Figure

from sns.analysis.cells import Results
from sns.analysis.figures import style
from sns.common.errors import UserError
from sns.common.files import atomic, write_text
from sns.common.registry import import_modules


class FigureModule(Protocol):
    """A figure's module. It may also have `TITLE`, a few words for the page, and `panels(frame)`, a
    list of `traces.Panel`. A figure without panels is shown on the page as drawn."""

    def compute(self, results: Results, setting: str | None = None, /) -> pd.DataFrame:
        """Every plotted number, the caption in attrs["caption"]; RecordError where the records hold
        nothing to draw. With attrs["first_panel"], a panel's title, the page shows one panel at a
        time, that one first."""

    def draw(self, frame: pd.DataFrame, /) -> Figure:
        """The figure from what `compute` returned."""


def _figures() -> dict[str, Any]:
    """The paper's by number, then the others by name."""
    modules = import_modules("sns.analysis.figures").items()
    figures = {_key(name): module for name, module in modules if hasattr(module, "compute") and hasattr(module, "draw")}
    return {name: figures[name] for name in sorted(figures, key=lambda name: (not name.isdigit(), name))}


def _key(name: str) -> str:
    return name.lower().removeprefix("figure").removeprefix("fig")


FIGURES: dict[str, FigureModule] = _figures()


def resolve(name: str) -> str:
    """The key of `fig1`, `figure1` or `1`; UserError for a name that FIGURES does not have."""
    key = _key(name)
    if key not in FIGURES:
        raise UserError(f"there is no figure {name}; choose from {', '.join(FIGURES)} or all")
    return key


def title(name: str) -> str:
    """The heading of a figure, such as `Figure 3. Largest Hessian eigenvalue`, or `Dose`."""
    words: Any = getattr(FIGURES[name], "TITLE", name)
    return f"Figure {name}. {words}" if name.isdigit() else str(words)


def numbers(name: str, results: Results, out: Path, setting: str | None = None) -> pd.DataFrame:
    """Writes figureN.csv (every plotted number) and figureN.txt (the caption) to `out`; returns the
    numbers, for drawing.

    `setting` is the main setting: Figures 1 to 4 show it, and 5 and 6 show the others. Raises
    RecordError where the records hold nothing to draw.
    """
    name = resolve(name)
    frame = FIGURES[name].compute(results, setting)
    frame.attrs["caption"] = f"{title(name).partition('. ')[0]}. {frame.attrs.get('caption', '')}".rstrip()
    out.mkdir(parents=True, exist_ok=True)
    with atomic(out / f"figure{name}.csv") as aside:
        frame.to_csv(aside, index=False)
    write_text(out / f"figure{name}.txt", frame.attrs["caption"] + "\n")
    return frame


def render(name: str, results: Results, out: Path, setting: str | None = None) -> list[Path]:
    """Writes figureN.png and .pdf as well, and returns the four paths."""
    name = resolve(name)
    frame = numbers(name, results, out, setting)
    stem = out / f"figure{name}"
    with style.context():
        files = style.save(FIGURES[name].draw(frame), stem)
    return [*files, stem.with_suffix(".csv"), stem.with_suffix(".txt")]
