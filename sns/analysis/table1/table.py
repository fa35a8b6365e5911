"""Table 1 as a frame: test accuracy and generalization gap of every cell, the paper's numbers, and
whether they are reproduced."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from sns.analysis.cells import PAPER_SETTINGS, REGIMES, Cell, Results, paper_table
from sns.analysis.stats import summarise
from sns.analysis.table1.reproduction import COLUMNS, LEGEND, PAPER_EPOCHS, Reproduction, assess, tally
from sns.record.schema import MEASURED, Result

ACCURACIES = ("final", "best")  # of the last evaluation, or the best on the test set
Paper = dict[tuple[str, str, str], dict[str, float]]


def compute(results: Results, *, accuracy: str = "final", all_cells: bool = False) -> pd.DataFrame:
    """One row for each setting x regime x method, in the paper's order.

    `accuracy` is one of ACCURACIES. The settings are those with records; the paper's four are added
    where one of them has records or none has, or if `all_cells`. Accuracies and gaps are fractions,
    their sd has n - 1 in the denominator, differences are measured - paper. `n` counts the
    completed runs: only these are averaged. `sns.analysis.table1.reproduction` has the rule behind
    the columns `*_verdict`. `attrs["notes"]` holds the notes below the table, `attrs["tally"]`
    counts the verdicts on accuracy and on the gap.
    """
    settings = list(results.settings)
    if all_cells or not settings or set(settings) & set(PAPER_SETTINGS):
        settings = [*PAPER_SETTINGS, *(name for name in settings if name not in PAPER_SETTINGS)]
    paper = _paper()
    rows = []
    for setting in settings:
        seeds = {r.result.seed for cell in results.cells if cell.setting == setting for r in cell.records}
        for regime in REGIMES:
            cells = [results.cell(setting, method, regime) for method in results.methods]
            rows += _mark_best([_row(cell, cells, len(seeds), paper, accuracy) for cell in cells])
    frame = pd.DataFrame(rows)
    frame.attrs["tally"] = {block: line for block in COLUMNS if (line := tally(frame, block))}
    frame.attrs["notes"] = notes(results, accuracy, judged=bool(frame.attrs["tally"]))
    frame.attrs["accuracy"] = accuracy
    return frame


def _paper() -> Paper:
    table = paper_table()
    keys = ["setting", "method", "regime"]
    return {tuple(row[k] for k in keys): row for row in table.to_dict("records")}  # type: ignore[misc]


def _shared(cells: Iterable[Cell], field: str, fallback: float | None) -> float | None:
    """The value of a result field that all runs share; `fallback` without runs, None if they
    differ."""
    values = {_value(record.result, field) for cell in cells for record in cell.records}
    return fallback if not values else values.pop() if len(values) == 1 else None


def _value(result: Result, field: str) -> Any:
    return result.measured.get(field) if field in MEASURED else getattr(result, field)


def _row(cell: Cell, row: list[Cell], seeds: int, paper: Paper, accuracy: str) -> dict[str, Any]:
    """The numbers of one cell. `row` holds the cells of its setting and regime; `seeds` is how many
    seeds the setting has."""
    printed = paper.get((cell.setting, cell.method, cell.regime), {})
    line = [paper[place] for c in row if (place := (c.setting, c.method, c.regime)) in paper]
    same_line = line[0] if line else {}
    done = [record.result for record in cell.finished]
    scores = {name: summarise(getattr(result, name)["test_accuracy"] for result in done) for name in ACCURACIES}
    primary, gap = scores[accuracy], summarise(result.measured.get("gap_at_alpha") for result in done)
    final_gap = summarise(result.final["gap"] for result in done)
    paper_accuracy, paper_gap = printed.get("test_accuracy"), printed.get("generalization_gap")
    return {
        "setting": cell.setting,
        "regime": cell.regime,
        "batch_size": _shared([cell] if cell.records else row, "batch_size", same_line.get("batch_size")),
        "method": cell.method,
        **_counts(cell, seeds),
        "epochs": _shared([cell], "epochs", None),
        "accuracy_mean": primary.mean,
        "accuracy_sd": primary.sd,
        "final_accuracy_mean": scores["final"].mean,
        "final_accuracy_sd": scores["final"].sd,
        "best_accuracy_mean": scores["best"].mean,
        "best_accuracy_sd": scores["best"].sd,
        "alpha": _shared([cell] if cell.records else row, "alpha", same_line.get("alpha")),
        "gap_mean": gap.mean,
        "gap_sd": gap.sd,
        "gap_n": gap.n,
        "never_exceeded": len(done) - gap.n,
        "final_gap_mean": final_gap.mean,
        "final_gap_sd": final_gap.sd,
        "paper_accuracy": paper_accuracy,
        "paper_alpha": printed.get("alpha"),
        "paper_gap": paper_gap,
        "accuracy_difference": _difference(primary.mean, paper_accuracy),
        "gap_difference": _difference(gap.mean, paper_gap),
        **_columns("accuracy", assess("accuracy", cell, primary, printed, line)),
        **_columns("gap", assess("gap", cell, gap, printed, line)),
        "accuracy_best": False,
        "gap_best": False,
    }


def _counts(cell: Cell, seeds: int) -> dict[str, int]:
    status = [record.result.status for record in cell.records]
    ends = {"n": status.count("ok"), "diverged": status.count("diverged"), "failed": status.count("failed")}
    return {"runs": len(status), **ends, "missing": seeds - len({record.result.seed for record in cell.records})}


def _columns(block: str, reproduction: Reproduction) -> dict[str, str | float | None]:
    return {
        f"{block}_verdict": reproduction.state,
        f"{block}_reason": reproduction.reason,
        f"{block}_interval": reproduction.interval,
    }


def _difference(measured: float | None, paper: float | None) -> float | None:
    return None if measured is None or paper is None else measured - paper


def _mark_best(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Marks the highest accuracy and the smallest gap among the methods of one line, ties at three
    decimals included.

    A cell competes only if every run of it has the number. At least two cells must compete.
    """
    for block, count, sign in (("accuracy", "n", 1), ("gap", "gap_n", -1)):
        competing = [row for row in rows if row["runs"] and row[count] == row["runs"]]
        if len(competing) >= 2:
            top = max(sign * round(row[f"{block}_mean"], 3) for row in competing)
            for row in competing:
                row[f"{block}_best"] = sign * round(row[f"{block}_mean"], 3) == top
    return rows


def notes(results: Results, accuracy: str, judged: bool) -> list[str]:
    """The notes below the table: how to read it, the rule of its verdicts if it is `judged`, other
    schedules than the paper's, notes on the data, and runs that are left out."""
    which = "the last evaluation" if accuracy == "final" else "the best evaluation on the test set (optimistic)"
    lines = [
        f"Test accuracy at {which}. Gap: smallest train - test accuracy over the evaluations whose test accuracy "
        "exceeds alpha (section 4.1). Mean ± sd over the n completed runs, written (n); below it the paper's value and "
        "the difference measured - paper.",
        "Bold: highest accuracy and smallest gap of a line, ties at three decimals included. A cell with a run that "
        "diverged, failed or never exceeded alpha does not compete.",
        *(LEGEND if judged else ()),
    ]
    precisions: dict[str, list[str]] = {}
    for setting in results.settings:
        runs = [record.result for cell in results.cells if cell.setting == setting for record in cell.records]
        epochs = sorted({run.epochs for run in runs})
        if epochs != [PAPER_EPOCHS]:
            instead = f" (assumed for the paper: {PAPER_EPOCHS})" if setting in PAPER_SETTINGS else ""
            planned = ", ".join(f"{x:g}" for x in epochs)
            lines.append(f"{setting}: {planned} epochs{instead}; dose in e-folds: {_doses(results, setting)}.")
        used = " and ".join(sorted({str(run.environment.get("precision", "unknown")) for run in runs}))
        precisions.setdefault(used, []).append(setting)
        for note in sorted({str(text) for run in runs if (text := _data_note(run.environment)) is not None}):
            lines.append(f"{setting}: {note}.")
        for run in runs:
            if run.status != "ok":
                lines.append(f"{run.run_id} {run.status}: {run.reason or 'no reason recorded'}")
    lines += [f"Training precision of {', '.join(names)}: {used}." for used, names in precisions.items()]
    return [*lines, *(f"Left out: {warning}" for warning in results.warnings)]


def _doses(results: Results, setting: str) -> str:
    parts = []
    for cell in (cell for cell in results.cells if cell.setting == setting):
        mean = summarise(r.result.dose.get("e_folds") for r in cell.finished).mean
        if mean is not None:
            parts.append(f"{cell.method} {cell.regime} {mean:.2g}")
    return ", ".join(parts) if parts else "none recorded"


def _data_note(environment: dict[str, Any]) -> Any:
    data = environment.get("data")
    return data.get("note") if isinstance(data, dict) else None
