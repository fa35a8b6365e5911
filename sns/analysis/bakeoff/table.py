"""The table of all methods: accuracy, gap, sigma, Jacobian norm and cost of each cell."""

from typing import Any

import pandas as pd

from sns.analysis.bakeoff.costs import Cost, costs
from sns.analysis.bakeoff.questions import Experiment
from sns.analysis.cells import Results, is_given, title_of
from sns.analysis.claims.measures import Place
from sns.analysis.claims.tables import markdown
from sns.analysis.stats import summarise

QUANTITIES = {
    "test_accuracy": "test accuracy, %",
    "gap": "gap, points",
    "train_accuracy": "training accuracy, %",
    "sigma_mean": "mean sigma",
    "jacobian_norm": "Jacobian norm",
}
PERCENT = ("test_accuracy", "gap", "train_accuracy")
COST = "time per update"
KEYS = ["setting", "regime", "batch_size", "optimizer", "method"]
COLUMNS = [*KEYS, "runs", "n", *(f"{q}_{part}" for q in QUANTITIES for part in ("mean", "low", "high"))]
COLUMNS += ["cost", "cost_low", "cost_high"]
NOTE = (
    "Mean over the n seeds that trained to the end, ± half of its 95% t interval; last evaluation. Mean sigma: "
    "geometric mean over the weight matrices of the largest singular value. Jacobian norm: mean over test images of "
    "the spectral norm of d logits / d x. Time per update: over vanilla's, median of paired rounds (bench/README.md)."
)


def compute(results: Results, measured_costs: dict[tuple[str, int, str], Cost] | None = None) -> pd.DataFrame:
    """A row COLUMNS for each cell, within a setting and batch size the most accurate first.

    Intervals are t intervals over seeds. Costs are those of row 12 of bench on a device of the
    records, unless given.
    """
    if measured_costs is None:
        measured_costs = costs({str(record.result.environment.get("device")) for record in results.records})
    experiment, rows = Experiment(results), list[dict[str, Any]]()
    for setting, regime in experiment.places:
        part = []
        for optimizer, own in experiment.results.items():
            for cell in (c for c in own.cells if (c.setting, c.regime) == (setting, regime)):
                size = cell.records[0].result.batch_size
                row: dict[str, Any] = dict(zip(KEYS, (setting, regime, size, optimizer, cell.method), strict=True))
                row |= {"runs": len(cell.records), "n": len(cell.finished)}
                for name in QUANTITIES:
                    values = experiment.measured[optimizer].values(name, Place(setting, regime, cell.method))
                    mean = summarise(values.values())
                    row |= {f"{name}_mean": mean.mean, f"{name}_low": mean.low, f"{name}_high": mean.high}
                cost = measured_costs.get((setting, size, cell.method)) if optimizer == "nesterov" else None
                if cost is not None:
                    row |= {"cost": cost.median, "cost_low": cost.low, "cost_high": cost.high}
                part.append(row)
        rows += sorted(part, key=lambda row: -(row["test_accuracy_mean"] or 0.0))
    return pd.DataFrame(rows, columns=COLUMNS).astype(dict.fromkeys(COLUMNS[7:], float))


def to_csv(frame: pd.DataFrame) -> str:
    """The rows as CSV, numbers with every digit."""
    return frame.to_csv(index=False)


def to_markdown(frame: pd.DataFrame) -> str:
    """A table for each setting and batch size, and what its columns mean."""
    parts = []
    for (setting, _, size), part in frame.groupby(["setting", "regime", "batch_size"], sort=False):
        parts.append(f"### {title_of(str(setting))}, B = {size}\n\n{markdown(*texts(part))}")
    return "\n".join([*parts, NOTE, ""])


def texts(part: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Head and lines of a table, as text; the optimizer is named where there are several."""
    several = part["optimizer"].nunique() > 1
    head = ["method", "n", *QUANTITIES.values(), COST]
    lines = []
    for row in part.to_dict("records"):
        name = f"{row['method']}, {row['optimizer']}" if several else str(row["method"])
        n = f"{row['n']}" if row["n"] == row["runs"] else f"{row['n']} of {row['runs']}"
        cost = f"{row['cost']:.2f}x" if is_given(row["cost"]) else "–"
        lines.append([name, n, *(_written(row, quantity) for quantity in QUANTITIES), cost])
    return head, lines


def _written(row: dict[Any, Any], quantity: str) -> str:
    """`55.5 ± 0.4`; accuracies and gaps in percent."""
    mean, low, high = (row[f"{quantity}_{part}"] for part in ("mean", "low", "high"))
    if not is_given(mean):
        return "–"
    scale, digits, few = (100, "{:.1f}", "{:.1f}") if quantity in PERCENT else (1, "{:#.3g}", "{:.2g}")
    half = f" ± {few.format(scale * (high - low) / 2)}" if is_given(low) else ""
    return digits.format(scale * mean) + half
