"""The six figures, and those beside them, by name, and their files: PNG, PDF, caption and plotted
numbers."""

from pathlib import Path
from types import ModuleType

import pandas as pd

from sns.analysis.cells import Results
from sns.analysis.figures import dose, figure1, figure2, figure3, figure4, figure5, figure6, style, summary
from sns.common.errors import UserError
from sns.common.files import atomic, write_text

FIGURES: dict[str, ModuleType] = {
    f"fig{module.NUMBER}": module for module in (figure1, figure2, figure3, figure4, figure5, figure6)
}


BESIDE: dict[str, ModuleType] = {  # not the paper's: drawn when asked for by name
    "figdose": dose,
    "figsummary": summary,
}


def resolve(name: str) -> str:
    """`fig1`, `figure1` or `1` as `fig1`, `dose` as `figdose`, `summary` likewise; UserError for
    anything else."""
    key = "fig" + name.lower().removeprefix("figure").removeprefix("fig")
    if key not in FIGURES | BESIDE:
        raise UserError(f"there is no figure {name}; choose from {', '.join(FIGURES)}, dose, summary or all")
    return key


def numbers(name: str, grid: Results, out: Path, setting: str | None = None) -> pd.DataFrame:
    """Writes figureN.csv (every plotted number) and figureN.txt (the caption) to `out`; the
    numbers, for drawing.

    `setting` is the main setting: the one Figures 1 to 4 show and 5 and 6 leave out. Raises
    RecordError where the records hold nothing to draw.
    """
    module = (FIGURES | BESIDE)[resolve(name)]
    frame: pd.DataFrame = module.compute(grid, setting)
    out.mkdir(parents=True, exist_ok=True)
    stem = out / f"figure{module.NUMBER}"
    with atomic(stem.with_suffix(".csv")) as aside:
        frame.to_csv(aside, index=False)
    write_text(stem.with_suffix(".txt"), frame.attrs["caption"] + "\n")
    return frame


def render(name: str, grid: Results, out: Path, setting: str | None = None) -> list[Path]:
    """Writes figureN.png and .pdf beside what `numbers` writes, and returns the four paths."""
    module = (FIGURES | BESIDE)[resolve(name)]
    frame = numbers(name, grid, out, setting)
    stem = out / f"figure{module.NUMBER}"
    with style.context():
        files = style.save(module.draw(frame), stem)
    return [*files, stem.with_suffix(".csv"), stem.with_suffix(".txt")]
