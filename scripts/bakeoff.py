"""The comparison of all methods: chooses strengths from tuning runs, and shows the answers.

python scripts/bakeoff.py choose [RESULTS] [--experiment bakeoff_tuning]
    writes the best candidates into configs/experiment/
python scripts/bakeoff.py show [RESULTS] [--experiment bakeoff]
    writes table, figure and answers
"""

import argparse
import sys
from pathlib import Path

from sns.analysis import cli
from sns.analysis.bakeoff import choice, text
from sns.analysis.cells import experiment_folder, load_results, output_folder
from sns.analysis.figures import render as figures
from sns.common.command import Parser, reports_errors
from sns.common.errors import RecordError, UserError


def choose(results: Path, only: str | None) -> int:
    """Chooses from all tuning experiments with runs, or from `only` one; 1 if runs are missing."""
    from sns.method import strengths  # imports torch

    names = [only] if only else [t.name for t in choice.TUNINGS if (results / "runs" / t.name).is_dir()]
    tunings = [tuning for tuning in choice.TUNINGS if tuning.name in names]
    if not tunings:
        raise UserError(f"{results} has no tuning runs to choose from: {', '.join(t.name for t in choice.TUNINGS)}")
    lacking = False
    for tuning in tunings:
        frame = choice.compute(results, tuning, strengths())
        print(choice.to_markdown(frame))
        sentences = choice.missing(frame, tuning)
        if not sentences and not frame["chosen"].any():
            raise UserError(f"{results} has no run of the candidates of {tuning.name}")
        print("".join(f"not tuned: {place}\n" for place in choice.untried(frame, tuning)), end="")
        for sentence in sentences:
            print(f"{tuning.name} lacks {sentence}", file=sys.stderr)
        if sentences:
            lacking = True
            continue
        print(cli.save(results / tuning.name, "tuning", choice.FORMATS, frame))
        print(f"written: {choice.write(choice.chosen(frame, tuning), tuning)}")
    return int(lacking)


def show(results: Path, only: str | None, out: Path | None) -> int:
    """Writes the pages of both grids, or of `only` one."""
    names = [only] if only else [n for n in ("bakeoff", "bakeoff_optim") if (results / "runs" / n).is_dir()]
    for name in names or ["bakeoff"]:
        folder = experiment_folder(results, name)
        found = load_results(folder)
        place = output_folder(folder) if out is None else out
        print(text.write(found, place))
        try:
            print("\n".join(map(str, figures.render("methods", found, place))))
        except RecordError as error:
            print(f"no figure: {error}")
        print(text.to_plain(text.answer_all(found)))
    return 0


@reports_errors
def main(arguments: list[str] | None = None) -> int:
    """Runs the action."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("choose", "show"), help="choose strengths, or show answers")
    parser.add_argument("results", nargs="?", type=Path, default=Path("results"), help="default results")
    parser.add_argument("--experiment", help="one folder under RESULTS/runs instead of all that belong here")
    parser.add_argument("--out", type=Path, help="where to write what is shown; default RESULTS/EXPERIMENT")
    options = parser.parse_args(arguments)
    if options.action == "choose":
        return choose(options.results, options.experiment)
    return show(options.results, options.experiment, options.out)


if __name__ == "__main__":
    sys.exit(main())
