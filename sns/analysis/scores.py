"""The score of every cell, whatever its task: a table for tasks that have none of their own."""

from typing import Any

import pandas as pd

from sns.analysis.cells import Cell, Results, title_of
from sns.analysis.stats import summarise

COLUMNS = ("task", "setting", "batch_size", "method", "optimizer", "score", "runs", "n", "mean", "sd")


def compute(results: Results) -> pd.DataFrame:
    """One row a cell, with COLUMNS: mean and sd of the score at the last evaluation.

    They are over the n runs that trained to the end; the sd has n - 1 in the denominator.
    """
    return pd.DataFrame([_row(cell) for cell in results.cells], columns=list(COLUMNS))


def _row(cell: Cell) -> dict[str, Any]:
    first = cell.records[0].result
    score = summarise(record.result.final[record.result.score] for record in cell.finished)
    shared = {name: getattr(first, name) for name in ("task", "setting", "batch_size", "method", "optimizer", "score")}
    return shared | {"runs": len(cell.records), "n": score.n, "mean": score.mean, "sd": score.sd}


def to_markdown(frame: pd.DataFrame) -> str:
    """The rows as a Markdown table."""
    lines = ["| setting | B | method | optimizer | score | n of runs | mean ± sd |", "|---|---|---|---|---|---|---|"]
    for row in frame.to_dict("records"):
        spread = "" if pd.isna(row["sd"]) else f" ± {row['sd']:.4g}"
        value = "–" if row["n"] == 0 else f"{row['mean']:.4g}{spread}"
        lines.append(
            f"| {title_of(row['setting'])} | {row['batch_size']} | {row['method']} | {row['optimizer']} | "
            f"{row['score']} | {row['n']} of {row['runs']} | {value} |"
        )
    return "\n".join(lines) + "\n"


def to_csv(frame: pd.DataFrame) -> str:
    """The rows as CSV, numbers with every digit."""
    return frame.to_csv(index=False)
