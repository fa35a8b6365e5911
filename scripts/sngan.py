"""SN-GAN from records: the paper's Table 2 beside ours, figures, answers, report.

python scripts/sngan.py table [RESULTS] [--experiment sngan_pocket] [--out FOLDER]
    table2.md .csv, runs.csv; likewise figures, claims (answers.md .csv), report, or all of them
"""

import argparse
import sys
from pathlib import Path

from sns.analysis.bakeoff.text import to_plain
from sns.analysis.cells import Results, load_experiment, output_folder
from sns.analysis.figures import render as figures
from sns.analysis.report import sngan as report
from sns.analysis.sngan import runs, table, text
from sns.common.command import Parser, reports_errors
from sns.common.errors import RecordError

ACTIONS = ("table", "figures", "claims", "report")


@reports_errors
def main(arguments: list[str] | None = None) -> int:
    """Runs the action, or all; prints what is written."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=(*ACTIONS, "all"), help="what to write")
    parser.add_argument("results", nargs="?", type=Path, default=Path("results"), help="default results")
    parser.add_argument("--experiment", help="a folder under RESULTS/runs, needed where there are several")
    parser.add_argument("--out", type=Path, help="where to write; default RESULTS/EXPERIMENT")
    options = parser.parse_args(arguments)
    folder, results = load_experiment(options.results, options.experiment, runs.TASK)
    out = output_folder(folder) if options.out is None else options.out
    for warning in runs.warnings(results):
        print(f"warning: {warning}", file=sys.stderr)
    for action in ACTIONS if options.action == "all" else (options.action,):
        _run(action, results, out, folder.name)
    return 0


def _run(action: str, results: Results, out: Path, name: str) -> None:
    if action == "table":
        written = text.write_table(results, out)
        frame = runs.compute(results)
        print(table.to_markdown((table.compute(frame, text.measured_costs(results)), frame)))
        print(written)
    elif action == "claims":
        print(f"{to_plain(text.answer_all(results))}\n\n{text.write_answers(results, out)}")
    elif action == "report":
        print(f"written: {out / 'report.html'} ({report.write(results, name, out / 'report.html') / 1e6:.1f} MB)")
    else:
        for figure in report.FIGURES:
            try:
                print("\n".join(map(str, figures.render(figure, results, out))))
            except RecordError as error:
                print(f"{figure} not drawn: {error}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
