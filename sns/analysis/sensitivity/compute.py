"""How results move with choices that the paper leaves open: one choice at a time, at pocket size
(results/sensitivity).

What the tables compare are runs of one seed that differ in a single field of their configuration,
nothing else; for the definition of training accuracy, two columns of the same histories.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from sns.analysis.cells import Results
from sns.analysis.figures import plotted
from sns.analysis.sensitivity.studies import STUDIES, Runs, Study, collect
from sns.analysis.stats import gap_at_alpha, paired, summarise
from sns.record.store import Record

EXPERIMENT, MAIN = "sensitivity", "pocket"  # folders under runs/
SEEDS = (0, 1, 2)
QUANTITIES = {**plotted.OUTCOMES, "operator_norm": "largest operator norm"}
CHANGES, NOTHING, UNKNOWN, DEFAULT = "changes", "no change found", "too few runs", "default"
COLUMNS = (
    *("study", "field", "setting", "regime", "batch_size", "method", "value", "is_default"),
    *("runs", "missing_seeds", "quantity", "n", "mean", "sd"),
    *("difference", "low", "high", "pairs", "verdict", "rank"),
)
DEFINITION = "train_accuracy"
DEFINITIONS = ("evaluation", "running")


def compute(grid: Results | None, main: Results | None) -> pd.DataFrame:
    """Rows COLUMNS: for each study, cell and value one row a quantity, values without runs
    included.

    Mean and sd are over the runs that ended well, of their last evaluation; `difference` is to the
    default, paired by seed, with its 95% t interval. `grid` holds the studies' records, `main`
    those whose training accuracy is defined in two ways; None where there are none.
    `attrs["notes"]`: what was left out, and what the records are.
    """
    notes: list[str] = []
    rows = [row for study in STUDIES for row in _study(study, grid.records if grid else (), notes)]
    rows += _definitions(main) if main and main.cells else []
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    for name, each in ((EXPERIMENT, grid), (MAIN, main)):
        notes += _provenance(name, each) if each and each.records else [f"No records of the experiment {name}."]
        left_out = () if each is None else each.warnings if name == MAIN else each.unusable
        notes += [f"Left out: {warning}." for warning in left_out]
    frame.attrs["notes"] = notes
    return frame


def _study(study: Study, records: Iterable[Record], notes: list[str]) -> Iterator[dict[str, Any]]:
    cells, left_out = collect(study, records)
    notes += left_out
    for (regime, methods), by_value in cells.items():
        more = sorted({value for value in by_value if value not in study.values}, key=str)
        seeds = {*SEEDS, *(seed for runs in by_value.values() for seed in runs)}
        sizes = (record.result.batch_size for runs in by_value.values() for record in runs.values())
        place: dict[str, Any] = {"study": study.name, "field": study.field, "setting": study.setting, "regime": regime}
        place["batch_size"] = next(sizes, None)
        for value in (*study.values, *more):
            found, reference = by_value.get(value, {}), by_value.get(study.default, {})
            method = value if study.field == "method.name" else methods[0]
            named = {**place, "method": method, "value": value, "is_default": value == study.default}
            named |= {"runs": len(found), "missing_seeds": _listed(seeds - found.keys())}
            yield from ({**named, **row} for row in _rows(found, None if named["is_default"] else reference))


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
    """The quantity at the last evaluation of the runs that ended well, by seed."""
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


def _definitions(grid: Results) -> Iterator[dict[str, Any]]:
    """The gap of every cell by both definitions of training accuracy, with the methods' ranks by
    it."""
    rows: list[dict[str, Any]] = []
    for cell in grid.cells:
        place: dict[str, Any] = {"study": DEFINITION, "field": "", "setting": cell.setting, "regime": cell.regime}
        place |= {"batch_size": cell.records[0].result.batch_size, "method": cell.method, "runs": len(cell.records)}
        place["missing_seeds"] = _listed({*SEEDS} - {record.result.seed for record in cell.records})
        by_definition = {name: _gaps(cell.finished, name) for name in DEFINITIONS}
        for name, found in by_definition.items():
            default = name == DEFINITIONS[0]
            named = {**place, "value": name, "is_default": default}
            for quantity, own in found.items():
                reference = None if default else by_definition[DEFINITIONS[0]][quantity]
                rows.append({**named, "quantity": quantity, **_numbers(own, reference)})
    keys = ["setting", "regime", "value", "quantity"]
    frame = pd.DataFrame(rows).astype({"mean": float})
    for row, rank in zip(rows, frame.groupby(keys)["mean"].rank(method="min"), strict=True):
        yield row | {"rank": None if pd.isna(rank) else int(rank)}


def _gaps(records: Iterable[Record], definition: str) -> dict[str, dict[int, float]]:
    """Gap of the last evaluation, and at alpha where it was exceeded, by seed."""
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


def _provenance(name: str, grid: Results) -> Iterator[str]:
    """Where records are from, what was wrong with some, and what is to be known of their images."""
    results = [record.result for record in grid.records]
    devices = sorted({str(result.environment.get("device")) for result in results})
    commits = sorted({str(result.environment.get("commit"))[:7] for result in results})
    yield f"Experiment {name}: {len(results)} runs; commit {', '.join(commits)}; {', '.join(devices)}."
    yield from (f"{r.run_id} {r.status}: {r.reason}." for r in results if r.status != "ok")
    told = {str(note) for r in results if (note := (r.environment.get("data") or {}).get("note"))}
    yield from (f"Images of {name}: {note}." for note in sorted(told))
