"""The registry of figures, and the files of one: PNG, PDF, caption and plotted numbers.

A module of this package with `compute` and `draw` is a figure: a new file registers itself. The
scripts, the report and the tests take every figure from FIGURES.
"""

import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
from matplotlib.figure import Figure

from sns.analysis.cells import Results
from sns.analysis.figures import style
from sns.common.errors import FigureError, RecordError, UserError, first_line
from sns.common.files import atomic, write_text
from sns.common.registry import Registry, import_modules

ROOT = Path(__file__).resolve().parents[3]


class FigureModule(Protocol):
    """A figure's module. It may also have `TITLE`, a few words for the page, and `panels(frame)`, a
    list of `traces.Panel`. A figure without panels is shown on the page as drawn. Where `OPTIONAL`
    is true and there is nothing to draw, the page does not mention the figure."""

    def compute(self, results: Results, setting: str | None = None, /) -> pd.DataFrame:
        """Every plotted number, the caption in attrs["caption"]; RecordError where the records hold
        nothing to draw. With attrs["first_panel"], a panel's title, the page shows one panel at a
        time, that one first."""

    def draw(self, frame: pd.DataFrame, /) -> Figure:
        """The figure from what `compute` returned."""


def by_key(modules: Mapping[str, Any]) -> dict[str, Any]:
    """The figures among `modules`: the paper's by number, then the others by name.

    ValueError for two files of one figure, such as fig1.py and figure1.py.
    """
    figures = Registry[Any]("figure")
    for name, module in modules.items():
        if hasattr(module, "compute") and hasattr(module, "draw"):
            figures.register(_key(name))(module)
    return {name: figures[name] for name in sorted(figures, key=lambda name: (not name.isdigit(), name))}


def _key(name: str) -> str:
    return name.lower().removeprefix("figure").removeprefix("fig")


FIGURES: dict[str, FigureModule] = by_key(import_modules("sns.analysis.figures"))


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


@contextmanager
def named_errors(name: str) -> Iterator[None]:
    """Around a figure's own code: any error but RecordError becomes a FigureError, which names the
    figure and the line. SNS_DEBUG=1 prints the trace to stderr."""
    try:
        yield
    except RecordError:
        raise
    except Exception as error:
        if os.environ.get("SNS_DEBUG"):
            traceback.print_exc()
        raise FigureError(f"figure {name}: {_described(error, getattr(FIGURES[name], '__file__', None))}") from error


def _described(error: Exception, file: str | None) -> str:
    """Type, message and the innermost line in `file`; the innermost of all where none is in it."""
    lines = traceback.extract_tb(error.__traceback__)
    at = ([line for line in lines if line.filename == file] or lines)[-1]
    words = dict.fromkeys((type(error).__name__, first_line(error)))  # the type alone without a message
    path = Path(at.filename)
    return f"{' '.join(words)} in {path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}, line {at.lineno}"


def _compute(name: str, results: Results, setting: str | None) -> pd.DataFrame:
    """The figure's numbers, with its name before the caption."""
    with named_errors(name):
        frame = FIGURES[name].compute(results, setting)
        frame.attrs["caption"] = f"{title(name).partition('. ')[0]}. {frame.attrs.get('caption', '')}".rstrip()
    return frame


def numbers(name: str, results: Results, out: Path, setting: str | None = None) -> None:
    """Writes figureN.csv (every plotted number) and figureN.txt (the caption) to `out`.

    `setting` is the main setting: Figures 1 to 4 show it, and 5 and 6 show the others. Raises
    RecordError where the records hold nothing to draw, FigureError for a bug in the figure.
    """
    name = resolve(name)
    _write(_compute(name, results, setting), out / f"figure{name}")


def _write(frame: pd.DataFrame, stem: Path) -> None:
    stem.parent.mkdir(parents=True, exist_ok=True)
    with atomic(stem.with_suffix(".csv")) as aside:
        frame.to_csv(aside, index=False)
    write_text(stem.with_suffix(".txt"), frame.attrs["caption"] + "\n")


def render(name: str, results: Results, out: Path, setting: str | None = None) -> list[Path]:
    """Writes figureN.png and .pdf as well, and returns the four paths. Writes nothing where the
    figure cannot be drawn. Errors as in `numbers`."""
    name = resolve(name)
    frame, stem = _compute(name, results, setting), out / f"figure{name}"
    plotted = frame.copy()  # the drawing may add columns
    with style.context(), named_errors(name):
        drawings = style.images(FIGURES[name].draw(frame))
    _write(plotted, stem)
    for suffix, content in drawings.items():
        stem.with_suffix(suffix).write_bytes(content)
    return [stem.with_suffix(suffix) for suffix in (*drawings, ".csv", ".txt")]


Outcome = list[Path] | UserError  # of one figure: its files, or why it was not drawn
_inherited: list[Callable[[str], Outcome]] = []  # in a process that draws: how, with the records


def render_all(
    names: Sequence[str], results: Results, out: Path, setting: str | None = None
) -> Iterator[tuple[str, Outcome]]:
    """`render` of each name, in their order.

    On Linux, where a process can be copied with the records in its memory, a process for each core
    draws. The figures of many settings take longest and come last: they begin first.
    """
    draw = partial(_outcome, results=results, out=out, setting=setting)
    workers = min(len(names), len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1)
    if workers < 2:
        yield from ((name, draw(name)) for name in names)
        return
    with ProcessPoolExecutor(workers, get_context("fork"), _inherited.append, (draw,)) as pool:
        drawn = [pool.submit(_draw_inherited, name) for name in reversed(names)]
        yield from ((name, future.result()) for name, future in zip(names, reversed(drawn), strict=True))


def _outcome(name: str, results: Results, out: Path, setting: str | None) -> Outcome:
    try:
        return render(name, results, out, setting)
    except UserError as error:
        return error


def _draw_inherited(name: str) -> Outcome:
    return _inherited[-1](name)
