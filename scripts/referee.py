"""Published estimates of a convolution's norm against the exact one, on trained networks.

python scripts/referee.py RUN_DIRECTORY ... [--out results/referee]

Each run directory needs its checkpoint. Writes referee.csv (layers and estimates), referee.md and
referee.png.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd

from sns.analysis.figures import style
from sns.analysis.referee import draw
from sns.common.command import Parser, reports_errors
from sns.common.errors import UserError
from sns.common.files import write_text
from sns.common.sealed import read
from sns.measure import referee
from sns.record import store
from sns.record.schema import CHECKPOINT
from sns.task.classification import Classification
from sns.train.configure import configure
from sns.train.session import start


@reports_errors
def main(arguments: list[str] | None = None) -> int:
    """Measures, writes and prints the summary."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN_DIRECTORY", help="of a trained classifier")
    parser.add_argument("--out", type=Path, default=Path("results/referee"), help="folder of the files")
    parser.add_argument("--root", help="data.root of this machine, where the record has another")
    given = parser.parse_args(arguments)
    rows = []
    for directory in given.runs:
        record = store.read(directory)
        if not (directory / CHECKPOINT).is_file():
            raise UserError(f"{directory} has no {CHECKPOINT}: train again with train.keep_checkpoint=true")
        tree = record.config | ({} if given.root is None else {"data": record.config["data"] | {"root": given.root}})
        task = start(configure(tree), directory).task
        if not isinstance(task, Classification):
            raise UserError(f"{directory} is a run of task={record.result.task}, not of classification")
        model = task.model
        model.load_state_dict(read(directory / CHECKPOINT)["task"]["model"])
        shape = tuple(task.dataset.train.x.shape[1:])
        rows += referee.measure(f"{record.result.setting} {record.result.method}", model, shape)
        print(f"{directory.name}: {len(rows)} lines", file=sys.stderr)
    given.out.mkdir(parents=True, exist_ok=True)
    store.write_rows(given.out / "referee.csv", referee.COLUMNS, rows)
    write_text(given.out / "referee.md", referee.summary(rows))
    with style.context():
        (given.out / "referee.png").write_bytes(style.png(draw(pd.DataFrame(rows))))
    print(referee.summary(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
