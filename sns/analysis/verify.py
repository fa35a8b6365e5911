"""Checks what results/ states: records against the schema and their own configuration, pages
against the records, quotations against their files."""

import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from sns.analysis import cli, scores
from sns.analysis.bakeoff import text as bakeoff
from sns.analysis.cells import load_experiment
from sns.analysis.claims import power
from sns.analysis.claims import text as claims
from sns.analysis.figures import render as figures
from sns.analysis.figures import summary
from sns.analysis.report import page as report
from sns.analysis.report import sngan as sngan_report
from sns.analysis.sensitivity import compute as sensitivity
from sns.analysis.sensitivity import text as sensitivity_text
from sns.analysis.sngan import runs as sngan_runs
from sns.analysis.sngan import text as sngan
from sns.analysis.table1 import table as table1
from sns.analysis.table1 import text as table1_text
from sns.common.errors import RecordError, UserError
from sns.common.files import write_text
from sns.config.schema import Config
from sns.record import attempts, store

TOLERANCE = 0.03  # of accuracies, a few times the sd over seeds
IMAGES = (".png", ".pdf")  # not compared themselves: the CSV of their numbers is
QUOTE = re.compile(r"<!-- (\S+) -->\n(.*?)<!-- / -->", re.DOTALL)  # a file of the repository, quoted on a page
ELSEWHERE = ("claims.yaml", "tuning.csv", "tuning.md", "score_validation.csv")  # rules; measured, or checked elsewhere
SECONDS = ["train_seconds", "measure_seconds"]


def record_faults(runs: Path, configure: Callable[[dict[str, Any]], Config]) -> Iterator[str]:
    """A sentence for each run directory below `runs` whose record is not whole, or is of another
    run than its name says.

    `configure` turns a recorded configuration into a Config; it is the trainer's, which analysis
    does not import.
    """
    images: dict[tuple[str, ...], str | None] = {}  # fingerprint of the first run of each variant
    for directory in store.run_directories(runs):
        if not store.is_finished(directory) and (directory / attempts.FILE).is_file():
            continue  # an unfinished run of this machine: it has no record yet
        try:
            record = store.read(directory)
            config = configure(record.config)
            record.history, record.layers, record.spectra  # noqa: B018  # read now, so that a damaged table is named
        except UserError as error:
            yield str(error)
            continue
        cell = record.result.experiment, record.result.setting, record.result.regime, record.result.variant
        if images.setdefault(cell, record.images) != record.images:
            yield f"{directory} was trained on other images than the runs that differ in the seed alone"
        names = {directory.name, record.result.run_id, config.run_id}
        if len(names) > 1:
            yield f"{directory} has several identities: {', '.join(sorted(names))}"
        if record.result.variant != config.variant:
            yield f"{directory} states the variant {record.result.variant}, its configuration gives {config.variant}"
        if directory.parent.name != record.result.experiment:
            yield f"{directory} says it belongs to the experiment {record.result.experiment}"


def page_faults(folder: Path) -> Iterator[str]:
    """A sentence for each file of `folder`/<experiment>/ that the records do not give again."""
    for experiment in sorted(path.name for path in (folder / "runs").iterdir() if (folder / path.name).is_dir()):
        files = (path for path in (folder / experiment).iterdir() if path.is_file())
        committed = sorted(path for path in files if path.name not in ELSEWHERE)
        with tempfile.TemporaryDirectory() as scratch:
            _compute_pages(folder, experiment, {path.name for path in committed}, Path(scratch))
            for path in committed:
                again = Path(scratch) / path.name
                if not (again.with_suffix(".csv") if path.suffix in IMAGES else again).is_file():
                    yield f"{path} is not computed from the records"
                elif path.suffix not in IMAGES and path.read_bytes() != again.read_bytes():
                    yield f"{path} differs from what its records give now: renew it with {_command(folder, path)}"


def _command(folder: Path, page: Path) -> str:
    """The command that writes `page` again, and no page that its folder lacks."""
    if page.stem == "sensitivity":
        return f"python scripts/sensitivity.py {folder}"
    if page.stem == "power":
        return f"python scripts/claims.py {folder} --experiment {page.parent.name} --power"
    if (page.parent / "table2.csv").is_file():
        return f"python scripts/sngan.py all {folder} --experiment {page.parent.name}"
    if page.stem in bakeoff.PAGES:
        return f"python scripts/bakeoff.py show {folder} --experiment {page.parent.name}"
    alone = page.name.startswith("figure") and not (page.parent / "report.html").is_file()
    script = f"figures.py {page.stem}" if alone else "publish.py"
    return f"python scripts/{script} {folder} --experiment {page.parent.name}"


def _compute_pages(folder: Path, experiment: str, names: set[str], out: Path) -> None:
    """Writes those of the project's pages that are among `names` to `out`."""
    if "sensitivity.csv" in names:
        frame = sensitivity.compute(*sensitivity.load_studies(folder))
        cli.save(out, "sensitivity", sensitivity_text.FORMATS, frame)
    drawn = sorted({name.split(".")[0] for name in names if name.startswith("figure")})
    if "scores.csv" in names:
        cli.save(out, "scores", scores.FORMATS, scores.compute(load_experiment(folder, experiment, task=None)[1]))
    if "table2.csv" in names:
        _compute_sngan(folder, experiment, names, out)
        return
    if not drawn and not names & {
        "table1.csv",
        "claims.csv",
        "power.csv",
        "summary.md",
        "report.html",
        "comparison.csv",
    }:
        return
    results = load_experiment(folder, experiment, may_be_empty="table1.csv" in names)[1]
    if "table1.csv" in names:
        cli.save(out, "table1", table1_text.FORMATS, table1.compute(results))
    if "claims.csv" in names:
        claims.write(results, out)
    if "power.csv" in names:
        cli.save(out, "power", power.FORMATS, power.compute(results))
    if "summary.md" in names:
        cli.save(out, "summary", {"md": summary.to_markdown}, summary.compute(results))
    if "comparison.csv" in names:
        bakeoff.write(results, out)
    if "report.html" in names:
        report.write(results, experiment, out / "report.html")
    for name in drawn:
        figures.numbers(name, results, out)


def _compute_sngan(folder: Path, experiment: str, names: set[str], out: Path) -> None:
    """The same for an experiment of GANs."""
    results = load_experiment(folder, experiment, sngan_runs.TASK)[1]
    sngan.write(results, out)
    if "report.html" in names:
        sngan_report.write(results, experiment, out / "report.html")
    for name in sngan_report.FIGURES:
        if f"figure{name}.csv" in names:
            figures.numbers(name, results, out)


def quote_faults(root: Path) -> Iterator[str]:
    """A sentence for each table in README.md or docs/*.md of `root` that is not the file it
    quotes."""
    for page in _pages(root):
        for name, quoted in QUOTE.findall(page.read_text(encoding="utf-8")):
            file = root / name
            if not file.is_file():
                yield f"{page} quotes {name}, which does not exist"
            elif quoted.strip() != file.read_text(encoding="utf-8").strip():
                yield f"{page} quotes {name} as it was: renew it with --requote"


def requote(root: Path) -> None:
    """Renews every quotation in README.md and docs/*.md of `root`."""
    for page in _pages(root):
        text = page.read_text(encoding="utf-8")
        new = QUOTE.sub(lambda match: f"<!-- {match[1]} -->\n{(root / match[1]).read_text()}<!-- / -->", text)
        if new != text:
            write_text(page, new)


def _pages(root: Path) -> list[Path]:
    return sorted([*root.glob("README.md"), *root.glob("docs/*.md")])


def compare_histories(recorded: pd.DataFrame, again: pd.DataFrame) -> str:
    """A sentence on how far two histories differ; RecordError if the accuracies of the last
    evaluation differ by more than TOLERANCE, or if there are none and a digit differs."""
    first, second = (frame.drop(columns=SECONDS) for frame in (recorded, again))
    second = second[[name for name in second.columns if name in first.columns]]  # what the record has
    if first.equals(second):
        return f"every digit of {len(first)} evaluations repeats"
    if len(first) != len(second):
        raise RecordError(f"{len(second)} evaluations instead of {len(first)}")
    if "test_accuracy" not in first:
        raise RecordError("not every digit repeats, and histories without accuracies have no tolerance")
    last = {name: abs(first[name].iloc[-1] - second[name].iloc[-1]) for name in ("train_accuracy", "test_accuracy")}
    text = ", ".join(f"{name} differs by {value:.4f}" for name, value in last.items())
    if not all(value <= TOLERANCE for value in last.values()):
        raise RecordError(f"{text}, more than {TOLERANCE}")
    differing = [name for name in first.columns if not first[name].equals(second[name])]
    return f"{text}, within {TOLERANCE}; not the same to the digit: {', '.join(differing)}"
