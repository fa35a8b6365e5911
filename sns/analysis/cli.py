"""What the scripts share: arguments, error messages and the files that they write."""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from sns.analysis.cells import Results, load_experiment, output_folder
from sns.common.command import Parser
from sns.common.files import write_text

Content = TypeVar("Content")
Main = Callable[[list[str] | None], int]


def results_parser(
    description: str, *, experiment: bool = True, out: str | None = "where to write; default RESULTS/EXPERIMENT"
) -> Parser:
    """A parser with RESULTS, with --experiment if `experiment`, and with --out if `out`, its help
    text, is not None."""
    parser = Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "results", nargs="?", type=Path, default=Path("results"), help="results folder; default results"
    )
    if experiment:
        parser.add_argument("--experiment", help="a folder under RESULTS/runs, needed where there are several")
    if out is not None:
        parser.add_argument("--out", type=Path, help=out)
    return parser


def open_experiment(
    options: argparse.Namespace, task: str | None = "classification", may_be_empty: bool = False
) -> tuple[Path, Results, Path]:
    """The folder of the experiment that `options` choose, its results and the output folder.

    `task` selects the results of one task; None selects all. Prints the warnings of the results to
    stderr. RecordError as in `load_experiment`.
    """
    folder, results = load_experiment(options.results, options.experiment, task, may_be_empty)
    out = output_folder(folder) if options.out is None else options.out
    for warning in results.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return folder, results, out


def save(out: Path, name: str, formats: Mapping[str, Callable[[Content], str]], content: Content) -> str:
    """Writes `content` to `out`/`name`.SUFFIX for each suffix of `formats`; returns a line that
    names the files."""
    out.mkdir(parents=True, exist_ok=True)
    for suffix, text in formats.items():
        write_text(out / f"{name}.{suffix}", text(content))
    return f"written: {', '.join(str(out / f'{name}.{suffix}') for suffix in formats)}"
