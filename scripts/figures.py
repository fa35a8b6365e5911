"""Figures from the records of a results folder, as PNG and PDF with their captions and plotted
numbers.

python scripts/figures.py [NAME ... | all] [RESULTS] [--experiment E] [--setting S] [--out FOLDER]
"""

import sys
from pathlib import Path

from sns.analysis.cells import load_experiment, output_folder
from sns.analysis.figures.render import FIGURES, render_all, resolve
from sns.common.command import Parser, reports_errors
from sns.common.errors import FigureError, UserError


@reports_errors
def main(arguments: list[str] | None = None) -> int:
    """Draws the figures and prints where they are; 1 if one that was asked for by name, or all,
    could not be drawn, or if a figure's code is wrong."""
    parser = Parser(description="Figures from records.")
    parser.add_argument(
        "what", nargs="*", help=f"figures, of {', '.join(FIGURES)}, or all (default); then the results folder"
    )
    parser.add_argument("--experiment", help="a folder under RESULTS/runs, needed where there are several")
    parser.add_argument("--setting", help="the setting of Figures 1 to 4; default densenet40_cifar100")
    parser.add_argument("--out", type=Path, help="where to write; default RESULTS/EXPERIMENT")
    options = parser.parse_args(arguments)
    named, folder = _split(options.what)
    folder, results = load_experiment(folder, options.experiment)
    out = output_folder(folder) if options.out is None else options.out
    for warning in results.warnings:
        print(f"left out: {warning}", file=sys.stderr)
    drawn = render_all(named or list(FIGURES), results, out, options.setting)
    missed = [error for name, outcome in drawn if (error := _reported(name, outcome))]
    wrong = any(isinstance(error, FigureError) for error in missed)
    return 1 if wrong or (missed and (named or len(missed) == len(FIGURES))) else 0


def _split(words: list[str]) -> tuple[list[str], Path]:
    """Names of figures, [] for all, and the results folder: the one word that is an existing folder
    or has a slash."""
    folders = [word for word in words if Path(word).is_dir() or "/" in word]
    if len(folders) > 1:
        raise UserError(f"give one results folder, not {', '.join(folders)}")
    named = [resolve(word) for word in words if word not in folders and word != "all"]
    return [] if "all" in words else named, Path(folders[0] if folders else "results")


def _reported(name: str, outcome: list[Path] | UserError) -> UserError | None:
    """Prints where a figure's files are, or why it was not drawn; returns that error."""
    if isinstance(outcome, UserError):
        hint = " (SNS_DEBUG=1 shows the trace)" if isinstance(outcome, FigureError) else ""
        print(f"{name} not drawn: {outcome}{hint}", file=sys.stderr)
        return outcome
    print(f"{name}: {', '.join(str(file) for file in outcome)}")
    return None


if __name__ == "__main__":
    sys.exit(main())
