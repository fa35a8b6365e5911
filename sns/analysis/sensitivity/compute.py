"""How results change with choices that the paper leaves open, one choice at a time, at pocket size
(results/sensitivity).

The tables compare runs of one seed that differ in a single field of their configuration. For the
definition of training accuracy they compare two columns of the same histories.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from sns.analysis.cells import Results, load_results
from sns.analysis.figures import plotted
from sns.analysis.sensitivity import batch_norm, precision
from sns.analysis.sensitivity.studies import STUDIES, Runs, Study, collect, option
from sns.analysis.stats import paired, summarise
from sns.common.errors import RecordError
from sns.record.gap import gap_at_alpha
from sns.record.store import Record

EXPERIMENT, MAIN = "sensitivity", "pocket"  # folders under runs/
QUANTITIES = {**plotted.OUTCOMES, "operator_norm": "largest operator norm"}
CHANGES, NOTHING, UNKNOWN, DEFAULT = "changes", "no change found", "too few runs", "default"
COLUMNS = (
    *("study", "field", "setting", "regime", "batch_size", "method", "value", "is_default"),
    *("runs", "missing_seeds", "quantity", "n", "mean", "sd"),
    *("difference", "low", "high", "pairs", "verdict", "rank"),
)
DEFINITION = "train_accuracy"
DEFINITIONS = ("evaluation", "running")


def load_studies(folder: Path) -> list[Results | None]:
    """The arguments of `compute` from a results folder; RecordError where none has records."""
    folders = [folder / "runs" / name for name in (EXPERIMENT, MAIN, batch_norm.STUDY)]
    loaded = [load_results(runs) if runs.is_dir() else None for runs in folders]
    if not any(results is not None and results.records for results in loaded):
        raise RecordError(f"{folder} holds no finished run of the studies: train them (make sensitivity)")
    return loaded


def compute(studies: Results | None, main: Results | None, statistics: Results | None = None) -> pd.DataFrame:
    """Rows COLUMNS: for each study, cell and value one row a quantity, also for values without
    runs.

    Mean and sd are of the last evaluation, over the completed runs. `difference` is to the default,
    paired by seed, with its 95% t interval. `studies` holds the records of the studies, `main`
    those for the two definitions of training accuracy, `statistics` those of the study batch_norm;
    None where there are none. `attrs["notes"]` says what was left out, and which records these are;
    `attrs["rules"]` has the lines of each study with a rule.
    """
    notes: list[str] = []
    rules: dict[str, list[str]] = {}
    rows = [row for study in STUDIES for row in _study(study, _records(study, studies, main), notes, rules)]
    rows += _definitions(main) if main and main.cells else []
    rows += batch_norm.rows(statistics) if statistics else []
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    frame.attrs["rules"] = rules
    for name, each in ((EXPERIMENT, studies), (MAIN, main), (batch_norm.STUDY, statistics)):
        notes += _provenance(name, each) if each and each.records else [f"No records of the experiment {name}."]
        left_out = () if each is None else each.warnings if name == MAIN else each.unusable
        notes += [f"Left out: {warning}." for warning in left_out]
    frame.attrs["notes"] = notes
    return frame


def _records(study: Study, studies: Results | None, main: Results | None) -> list[Record]:
    """The records of a study; those of its default are of `main` if it does not train it."""
    own = list(studies.records if studies else ())
    if not study.with_main:
        return own
    own = [r for r in own if option(r, study.field) != study.default]
    seeds = {*study.seeds, *(r.result.seed for r in own)}  # a further seed of `main` has no partner
    return [*own, *(r for r in (main.records if main else ()) if r.result.seed in seeds)]


def _study(
    study: Study, records: Iterable[Record], notes: list[str], rules: dict[str, list[str]]
) -> Iterator[dict[str, Any]]:
    cells, left_out = collect(study, records)
    notes += left_out
    if study.name == "precision":
        rules[study.name] = precision.judge(cells, len(cells) * len(study.seeds))
    for (setting, regime, methods), by_value in cells.items():
        more = sorted({value for value in by_value if value not in study.values}, key=str)
        seeds = {*study.seeds, *(seed for of_value in by_value.values() for seed in of_value)}
        sizes = (record.result.batch_size for of_value in by_value.values() for record in of_value.values())
        place: dict[str, Any] = {"study": study.name, "field": study.field, "setting": setting, "regime": regime}
        place["batch_size"] = next(sizes, None)
        for value in (*study.values, *more):
            runs, reference = by_value.get(value, {}), by_value.get(study.default, {})
            method = value if study.field == "method.name" else methods[0]
            named = {**place, "method": method, "value": value, "is_default": value == study.default}
            named |= {"runs": len(runs), "missing_seeds": _listed(seeds - runs.keys())}
            yield from ({**named, **row} for row in _rows(runs, None if named["is_default"] else reference))


def _listed(seeds: set[int]) -> str:
    return " ".join(map(str, sorted(seeds)))


def _rows(runs: Runs, reference: Runs | None) -> Iterator[dict[str, Any]]:
    for quantity in QUANTITIES:
        own = _values(runs, quantity)
        yield {"quantity": quantity} | _numbers(own, None if reference is None else _values(reference, quantity))


def _numbers(own: Mapping[int, float], reference: Mapping[int, float] | None) -> dict[str, Any]:
    """Mean, sd and n of `own`, and own - reference over common seeds; the default itself has
    reference None."""
    mean = summarise(own.values())
    row: dict[str, Any] = {"n": mean.n, "mean": mean.mean, "sd": mean.sd, "verdict": DEFAULT}
    if reference is None:
        return row
    shift = paired(own, reference)
    row |= {"difference": shift.mean, "low": shift.low, "high": shift.high, "pairs": shift.n, "verdict": UNKNOWN}
    if shift.low is not None and shift.high is not None:
        row["verdict"] = CHANGES if shift.low > 0 or shift.high < 0 else NOTHING
    return row


def _values(runs: Runs, quantity: str) -> dict[int, float]:
    """The quantity at the last evaluation of the completed runs, by seed."""
    values: dict[int, float] = {}
    for seed, record in runs.items():
        if record.result.status != "ok":
            continue
        if quantity != "operator_norm":
            value = record.result.final.get(quantity)  # None where it was not finite
        else:
            value = None if record.layers is None else float(record.layers["operator_norm"].max())
        if value is not None:
            values[seed] = value
    return values


def _definitions(results: Results) -> Iterator[dict[str, Any]]:
    """The gap of every cell by both definitions of training accuracy, with the rank of its
    method. A line compares its methods over the seeds that all of them have."""
    seeds = {record.result.seed for cell in results.cells for record in cell.records}
    rows: list[dict[str, Any]] = []
    for cell in results.cells:
        line = [other for other in results.cells if (other.setting, other.regime) == (cell.setting, cell.regime)]
        common = set.intersection(*({record.result.seed for record in other.records} for other in line))
        place: dict[str, Any] = {"study": DEFINITION, "field": "", "setting": cell.setting, "regime": cell.regime}
        place |= {"batch_size": cell.records[0].result.batch_size, "method": cell.method, "runs": len(cell.records)}
        place["missing_seeds"] = _listed(seeds - {record.result.seed for record in cell.records})
        runs = [record for record in cell.finished if record.result.seed in common]
        by_definition = {name: _gaps(runs, name) for name in DEFINITIONS}
        for name, gaps in by_definition.items():
            default = name == DEFINITIONS[0]
            named = {**place, "value": name, "is_default": default}
            for quantity, own in gaps.items():
                reference = None if default else by_definition[DEFINITIONS[0]][quantity]
                rows.append({**named, "quantity": quantity, **_numbers(own, reference)})
    keys = ["setting", "regime", "value", "quantity"]
    frame = pd.DataFrame(rows).astype({"mean": float})
    for row, rank in zip(rows, frame.groupby(keys)["mean"].rank(method="min"), strict=True):
        yield row | {"rank": None if pd.isna(rank) else int(rank)}


def _gaps(records: Iterable[Record], definition: str) -> dict[str, dict[int, float]]:
    """The gap of the last evaluation, and the gap at alpha where it was exceeded, by seed."""
    column = "train_accuracy" if definition == DEFINITIONS[0] else "running_train_accuracy"
    gaps: dict[str, dict[int, float]] = {"gap": {}, "gap_at_alpha": {}}
    for record in records:
        result = record.result
        gaps["gap"][result.seed] = result.final[column] - result.final["test_accuracy"]
        history = record.history.assign(train_accuracy=record.history[column])
        reached = gap_at_alpha(history.to_dict("records"), result.measured["alpha"])  # type: ignore[arg-type]
        if reached is not None:
            gaps["gap_at_alpha"][result.seed] = reached[0]
    return gaps


def _provenance(name: str, experiment: Results) -> Iterator[str]:
    """Where the records are from, which runs did not complete, and the notes on their images."""
    results = [record.result for record in experiment.records]
    devices = sorted({str(result.environment.get("device")) for result in results})
    commits = sorted({str(result.environment.get("commit"))[:7] for result in results})
    yield f"Experiment {name}: {len(results)} runs; commit {', '.join(commits)}; {', '.join(devices)}."
    yield from (f"{r.run_id} {r.status}: {r.reason}." for r in results if r.status != "ok")
    images = {str(note) for r in results if (note := (r.environment.get("data") or {}).get("note"))}
    yield from (f"Images of {name}: {note}." for note in sorted(images))
