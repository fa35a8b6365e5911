"""What the scripts share that compute pages from the records of one experiment: arguments, files
and errors."""

import argparse
import functools
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from sns.analysis.cells import Results, load_experiment, output_folder
from sns.common.errors import UserError
from sns.common.files import write_text

Content = TypeVar("Content")
Main = Callable[[list[str] | None], int]


def parser(description: str) -> argparse.ArgumentParser:
    """Reads RESULTS and --experiment; `parse` adds --out after the script's own options."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("results", nargs="?", type=Path, default=Path("results"), help="results or experiment folder")
    made.add_argument("--experiment", help="a folder under RESULTS/runs, needed where there are several")
    return made


def parse(
    made: argparse.ArgumentParser,
    arguments: list[str] | None,
    out: str = "where to write; default RESULTS/EXPERIMENT",
) -> argparse.Namespace:
    """The options, --out as the last of them."""
    made.add_argument("--out", type=Path, help=out)
    return made.parse_args(arguments)


def load(options: argparse.Namespace) -> tuple[Results, Path]:
    """The grid that `options` name and the folder to write to; RecordError as `load_experiment`."""
    folder, grid = load_experiment(options.results, options.experiment)
    return grid, output_folder(folder) if options.out is None else options.out


def save(out: Path, name: str, formats: Mapping[str, Callable[[Content], str]], content: Content) -> str:
    """Writes `content` as `out`/`name`.SUFFIX for each suffix of `formats`; a line that says which
    files these are."""
    out.mkdir(parents=True, exist_ok=True)
    for suffix, text in formats.items():
        write_text(out / f"{name}.{suffix}", text(content))
    return f"written: {', '.join(str(out / f'{name}.{suffix}') for suffix in formats)}"


def told(main: Main) -> Main:
    """A script's `main` in which an error that the user can put right is one line and the exit code
    1."""

    @functools.wraps(main)
    def run(arguments: list[str] | None = None) -> int:
        try:
            return main(arguments)
        except (UserError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1

    return run
