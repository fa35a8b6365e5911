"""Checks what results/ states: records against the schema and their own configuration, pages
against the records.

python scripts/verify.py [RESULTS]                                   # records, what is computed from them, quotations
python scripts/verify.py --retrain RUN_DIRECTORY [data.path=FILE]    # trains one run again and compares its history

Retraining on the same kind of processor with the same versions repeats every digit; elsewhere
rounding grows over training, so that the last evaluation's accuracies may differ by TOLERANCE.
"""

import argparse
import contextlib
import io
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import claims
import pandas as pd
import report
import sensitivity
import summary
import table1
from omegaconf import OmegaConf

from sns.analysis.cells import load_experiment
from sns.analysis.figures import render as figures
from sns.common.errors import RecordError, UserError
from sns.common.files import write_text
from sns.config.schema import DataConfig
from sns.record import attempts, store
from sns.train.configure import configure
from sns.train.run import run

TOLERANCE = 0.03  # of accuracies, a few times what seeds differ by
DRAWN = (".png", ".pdf")  # compared in the numbers they plot, which stand beside them
QUOTE = re.compile(r"<!-- (\S+) -->\n(.*?)<!-- / -->", re.DOTALL)  # a file of the repository, quoted on a page
SECONDS = ("train_seconds", "measure_seconds")


def record_faults(runs: Path) -> Iterator[str]:
    """A sentence for each run directory below `runs` that does not hold a whole record of what its
    name says."""
    for directory in store.run_directories(runs):
        if not store.is_finished(directory) and (directory / attempts.FILE).is_file():
            continue  # a run of this machine that is not over: no record yet, and never committed
        try:
            record = store.read(directory)
            config = configure(record.config)
            record.history, record.layers, record.spectra  # noqa: B018  # read now, so that a damaged table is named
        except UserError as error:
            yield str(error)
            continue
        names = {directory.name, record.result.run_id, config.run_id}
        if len(names) > 1:
            yield f"{directory} has several identities: {', '.join(sorted(names))}"
        if record.result.variant != config.variant:
            yield f"{directory} states the variant {record.result.variant}, its configuration gives {config.variant}"
        if directory.parent.name != record.result.experiment:
            yield f"{directory} says it belongs to the experiment {record.result.experiment}"


def page_faults(results: Path) -> Iterator[str]:
    """A sentence for each file of results/<experiment>/ that its records do not give again."""
    for folder in sorted(path for path in (results / "runs").iterdir() if (results / path.name).is_dir()):
        committed = sorted(path for path in (results / folder.name).iterdir() if path.is_file())
        with tempfile.TemporaryDirectory() as aside:
            _publish(results, folder.name, Path(aside), {path.name for path in committed})
            for path in committed:
                again = Path(aside) / path.name
                if not (again.with_suffix(".csv") if path.suffix in DRAWN else again).is_file():
                    yield f"{path} is not computed from the records"
                elif path.suffix not in DRAWN and path.read_bytes() != again.read_bytes():
                    yield f"{path} is not what its records give now"


def _publish(results: Path, experiment: str, out: Path, wanted: set[str]) -> None:
    where = [str(results), "--experiment", experiment, "--out"]
    drawn = sorted({name.split(".")[0] for name in wanted if name.startswith("figure")})
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        if "table1.csv" in wanted:
            table1.main([*where, str(out)])
        if "claims.csv" in wanted:
            claims.main([*where, str(out)])
        if "summary.md" in wanted:
            summary.main([*where, str(out)])
        if "report.html" in wanted:
            report.main([*where, str(out / "report.html")])
        if "sensitivity.csv" in wanted:
            sensitivity.main([str(results), "--out", str(out)])
        if drawn:
            grid = load_experiment(results, experiment)[1]
            for name in drawn:
                figures.numbers(name, grid, out)


def quote_faults(root: Path) -> Iterator[str]:
    """A sentence for each table that README.md or docs/*.md of `root` quotes in another wording
    than its file's."""
    for page in sorted([*root.glob("README.md"), *root.glob("docs/*.md")]):
        for name, quoted in QUOTE.findall(page.read_text(encoding="utf-8")):
            file = root / name
            if not file.is_file():
                yield f"{page} quotes {name}, which does not exist"
            elif quoted.strip() != file.read_text(encoding="utf-8").strip():
                yield f"{page} does not quote {name} as it is now"


def requote(root: Path) -> None:
    """Brings every quotation up to date."""
    for page in [*root.glob("README.md"), *root.glob("docs/*.md")]:
        text = page.read_text(encoding="utf-8")
        new = QUOTE.sub(lambda found: f"<!-- {found[1]} -->\n{(root / found[1]).read_text()}<!-- / -->", text)
        if new != text:
            write_text(page, new)


def retrain(directory: Path, overrides: list[str]) -> str:
    """Trains the run of `directory` again in a scratch folder; a sentence on how close its history
    came.

    RecordError if the accuracies of the last evaluation differ by more than TOLERANCE.
    """
    record = store.read(directory)
    with tempfile.TemporaryDirectory() as aside:
        places = {"root": DataConfig.root, "download": True}  # not where the machine that trained it had them
        free: dict[str, Any] = {"results": aside, "data": places, "train": {"keep_checkpoint": False}}
        config = configure(OmegaConf.merge(record.config, free, OmegaConf.from_dotlist(overrides)))
        if config.run_id != record.result.run_id:
            raise RecordError(f"{directory}: with {' '.join(overrides)} it would be another run, {config.run_id}")
        run(config)
        again = store.read(config.directory)
    if again.result.environment["data"]["fingerprint"] != record.result.environment["data"]["fingerprint"]:
        raise RecordError(f"{directory} was trained on other images than these")
    return compare(record.history, again.history)


def compare(recorded: pd.DataFrame, again: pd.DataFrame) -> str:
    """How far two histories are apart; RecordError beyond TOLERANCE."""
    first, second = (frame.drop(columns=list(SECONDS)) for frame in (recorded, again))
    if first.equals(second):
        return f"every digit of {len(first)} evaluations repeats"
    if len(first) != len(second):
        raise RecordError(f"{len(second)} evaluations instead of {len(first)}")
    last = {name: abs(first[name].iloc[-1] - second[name].iloc[-1]) for name in ("train_accuracy", "test_accuracy")}
    text = ", ".join(f"{name} differs by {value:.4f}" for name, value in last.items())
    if not all(value <= TOLERANCE for value in last.values()):
        raise RecordError(f"{text}, more than {TOLERANCE}")
    moved = [name for name in first.columns if not first[name].equals(second[name])]
    return f"{text}, within {TOLERANCE}; not the same to the digit: {', '.join(moved)}"


def main(arguments: list[str] | None = None) -> int:
    """0 if everything holds; prints a line for each thing that does not."""
    parser = argparse.ArgumentParser(description="Checks records, and what is computed from them.")
    parser.add_argument("results", nargs="?", type=Path, default=Path("results"), help="results folder")
    parser.add_argument("--retrain", type=Path, metavar="RUN_DIRECTORY", help="train this run again and compare")
    parser.add_argument("--requote", action="store_true", help="first renew the tables that README and docs quote")
    options, overrides = parser.parse_known_args(arguments)
    root = options.results.absolute().parent
    try:
        if options.requote:
            requote(root)
        if options.retrain is not None:
            extra = [text for text in (str(options.results), *overrides) if "=" in text]
            print(f"{options.retrain.name}: {retrain(options.retrain, extra)}")
            return 0
        faults = [*record_faults(options.results / "runs"), *page_faults(options.results)]
        faults += quote_faults(root)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for fault in faults:
        print(fault, file=sys.stderr)
    count = len(store.run_directories(options.results / "runs"))
    print(f"{count} records and what is computed from them: {f'{len(faults)} fault(s)' if faults else 'all hold'}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
