"""What the report shows of the table, the cells and the runs, as plain values."""

import json
from typing import Any

import pandas as pd

from sns.analysis.cells import METHODS, REGIMES, Cell, Results, is_given, methods_of, title_of
from sns.analysis.figures.traces import short, thin
from sns.analysis.table1 import reproduction as verdict
from sns.analysis.table1 import text as table1_text
from sns.common.errors import RecordError
from sns.record.store import CONFIG, Record

CURVE_POINTS = 300  # at most, of a run's curve
TIMINGS = ("train_seconds", "measure_seconds", "images_per_second", "sessions")
MEMORY = ("peak_bytes", "peak_host_bytes")
DOSE = ("e_folds", "learning_rate_sum")
BLOCKS = {"accuracy": "Test accuracy", "gap": "Generalization gap"}


def cell_key(setting: str, method: str, regime: str) -> str:
    """The name of a cell in the page's data."""
    return f"{setting} {method} {regime}"


def table(frame: pd.DataFrame) -> dict[str, Any]:
    """The lines of Table 1 with every entry's texts, sort value and verdict; `frame` is from
    table1.compute."""
    names = methods_of(frame)
    lines = []
    for (setting, regime), part in frame.groupby(["setting", "regime"], sort=False):
        rows = {str(row["method"]): row for row in part.to_dict("records")}
        sizes = sorted({int(row["batch_size"]) for row in rows.values() if is_given(row["batch_size"])})
        alphas = sorted({row["alpha"] for row in rows.values() if is_given(row["alpha"])})
        lines.append(
            {
                "setting": title_of(str(setting)),
                "batch": "/".join(map(str, sizes)) if sizes else str(regime),
                "order": sizes[0] if sizes else REGIMES.index(str(regime)),
                "alpha": "/".join(f"{alpha:.2f}" for alpha in alphas) if alphas else "–",
                "entries": [_entry(rows[name], block) for block in BLOCKS for name in names if name in rows],
            }
        )
    paper = frame["paper_accuracy"].notna().any()
    texts = {"notes": frame.attrs["notes"], "tally": list(frame.attrs["tally"].values())}
    return {"methods": names, "blocks": BLOCKS, "lines": lines, "paper": bool(paper), **texts}


def _entry(row: Any, block: str) -> dict[str, Any]:
    value, difference = row[f"{block}_mean"], row[f"{block}_difference"]
    shown = round(difference, 3) if is_given(difference) else 0.0  # as printed, so that +0.000 has no side
    return {
        "key": cell_key(row["setting"], row["method"], row["regime"]) if row["runs"] else None,
        "label": f"{row['method']}, {BLOCKS[block].lower()}",
        "measured": table1_text.measured_value(row, block),
        "beside": table1_text.paper_value(row, block),
        "sort": value if is_given(value) else None,
        "best": bool(row[f"{block}_best"]),
        "side": "" if shown == 0 else "above" if shown > 0 else "below",
        "judged": verdict.mark(row, block),
        "word": row[f"{block}_verdict"],
        "state": _state(row[f"{block}_verdict"], row[f"{block}_reason"]),
    }


def _state(word: str, reason: str) -> str:
    """The style class of a verdict."""
    if word == verdict.MISSED:
        return f"miss {reason}" if reason in ("above", "below") else "miss"
    if word == verdict.REPRODUCED and reason != verdict.WIDE:
        return "hit"
    return "open" if word in (verdict.REPRODUCED, verdict.UNDECIDED, verdict.NOT_JUDGED) else ""


def cells(results: Results) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Every cell with runs by `cell_key`, and every environment once, as JSON.

    A cell has a title, the configuration of its first run, and each run's curves and numbers. A run
    states the place of its environment in the list.
    """
    environments: dict[str, int] = {}
    by_key = {}
    for cell in results.cells:
        by_key[cell_key(cell.setting, cell.method, cell.regime)] = {
            "title": f"{title_of(cell.setting)}, {cell.method}, B={cell.records[0].result.batch_size}",
            "config": _config(cell),
            "runs": [_run(record, environments) for record in cell.records],
        }
    return by_key, list(environments)


def _config(cell: Cell) -> str:
    try:
        return (cell.records[0].path / CONFIG).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        return f"cannot be read: {error}"


def _run(record: Record, environments: dict[str, int]) -> dict[str, Any]:
    result = record.result
    final, best = result.final or {}, result.best or {}
    environment = json.dumps(result.environment, indent=1, sort_keys=True)
    return {
        "id": result.run_id,
        "seed": result.seed,
        "status": result.status,
        "reason": result.reason,
        "test": final.get("test_accuracy"),
        "train": final.get("train_accuracy"),
        "best": best.get("test_accuracy"),
        "gap": final.get("gap"),
        "alpha": result.measured.get("alpha"),
        "gap_at_alpha": result.measured.get("gap_at_alpha"),
        "gap_at_alpha_epoch": result.measured.get("gap_at_alpha_epoch"),
        "epochs": result.epochs,
        "steps": result.steps,
        "timings": {key: result.timings.get(key) for key in TIMINGS},
        "memory": {key: result.memory.get(key) for key in MEMORY},
        "dose": {key: result.dose.get(key) for key in DOSE},
        "hessian": {part: entry.get("eigenvalue") for part, entry in (result.measured.get("hessian") or {}).items()},
        "quantiles": result.measured.get("gradient_quantiles"),
        "environment": environments.setdefault(environment, len(environments)),
        "command": result.command,
        "curves": _curves(record),
    }


def _curves(record: Record) -> dict[str, list[float | None]] | None:
    try:
        history = record.history
    except RecordError:
        return None
    history = history.iloc[thin(len(history), CURVE_POINTS)]
    names = {"epoch": "epoch", "test": "test_accuracy", "train": "train_accuracy"}
    return {name: short(history[column]) for name, column in names.items()}


def missing(results: Results, settings: list[str]) -> list[str]:
    """One sentence for each line of cells without a run and each run that diverged or failed."""
    sentences = []
    for setting in settings:
        for regime in REGIMES:
            absent = [method for method in METHODS if not results.cell(setting, method, regime).records]
            if absent:
                sentences.append(f"{title_of(setting)}, {regime} batch: not run: {', '.join(absent)}.")
    for cell in results.cells:
        sentences += [
            f"{result.run_id} {result.status} after {result.steps} updates: {result.reason or 'no reason recorded'}"
            for result in (record.result for record in cell.records)
            if result.status != "ok"
        ]
    return sentences
