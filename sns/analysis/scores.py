"""The score of every cell and variant, whatever its task: a table for tasks that have none of their
own, and for sweeps over options."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from sns.analysis.cells import Cell, Results, title_of
from sns.analysis.options import differences
from sns.analysis.stats import summarise
from sns.record.store import Record

COLUMNS = ("task", "setting", "batch_size", "method", "options", "score", "runs", "n", "mean", "sd")


def compute(results: Results) -> pd.DataFrame:
    """One row for each variant of each cell, columns COLUMNS.

    mean and sd (n - 1 in the denominator) are those of the score at the last evaluation over the n
    runs that trained to the end. `options` says in what the variants of a cell differ.
    """
    rows = [row for cell in results.cells for row in _rows(cell, results.records)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _rows(cell: Cell, records: Iterable[Record]) -> list[dict[str, Any]]:
    place = cell.setting, cell.method, cell.regime
    records = [r for r in records if (r.result.setting, r.result.method, r.result.regime) == place]
    by_variant: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda record: record.result.seed):
        by_variant.setdefault(record.result.variant, []).append(record)
    words = differences([runs[0] for runs in by_variant.values()])
    return [_row(runs, options) for runs, options in zip(by_variant.values(), words, strict=True)]


def _row(runs: list[Record], options: str) -> dict[str, Any]:
    first = runs[0].result
    finished = [record.result for record in runs if record.result.status == "ok"]
    score = summarise(result.final[result.score] for result in finished)
    shared = {name: getattr(first, name) for name in ("task", "setting", "batch_size", "method", "score")}
    return shared | {"options": options, "runs": len(runs), "n": score.n, "mean": score.mean, "sd": score.sd}


def to_markdown(frame: pd.DataFrame) -> str:
    """The rows as a Markdown table."""
    lines = ["| setting | B | method | options | score | n of runs | mean ± sd |", "|---|---|---|---|---|---|---|"]
    for row in frame.to_dict("records"):
        spread = "" if pd.isna(row["sd"]) else f" ± {row['sd']:.4g}"
        value = "–" if row["n"] == 0 else f"{row['mean']:.4g}{spread}"
        lines.append(
            f"| {title_of(row['setting'])} | {row['batch_size']} | {row['method']} | {row['options']} | "
            f"{row['score']} | {row['n']} of {row['runs']} | {value} |"
        )
    return "\n".join(lines) + "\n"


def to_csv(frame: pd.DataFrame) -> str:
    """The rows as CSV, numbers with every digit."""
    return frame.to_csv(index=False)


FORMATS = {"md": to_markdown, "csv": to_csv}
