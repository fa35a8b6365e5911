"""What the running statistics of batch norm hide under dropout: two measurements of the same run.

The rule is that of configs/experiment/sensitivity/batch_norm.yaml.
"""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from sns.analysis.cells import Cell, Results, is_given, title_of
from sns.analysis.stats import paired, summarise

STUDY = "batch_norm"
VALUES = ("running", "recalibrated")
QUANTITIES = {
    "test_accuracy": "test accuracy",
    "train_accuracy": "training accuracy",
    "gap": "gap",
    "test_gradient_norm": "test gradient norm",
}
LIMIT = 0.01  # of the rule: difference of the two test accuracies
ABOUT = (
    "In evaluation mode batch norm divides by the running deviation, which dropout before it has raised in training. "
    "running: with those statistics, as everywhere else. recalibrated: the same weights with statistics taken anew, "
    "without dropout, from 1,000 clean training images. Means over n seeds at the last evaluation, running / "
    "recalibrated, and the difference; its 95% t interval over seeds where there are two or more."
)


def rows(results: Results) -> Iterator[dict[str, Any]]:
    """For each cell, statistics and quantity one row, with the columns of `compute`."""
    for cell in results.cells:
        place: dict[str, Any] = {
            "study": STUDY,
            "field": "",
            "setting": cell.setting,
            "regime": cell.regime,
            "method": cell.method,
        }
        place |= {"batch_size": cell.records[0].result.batch_size, "runs": len(cell.records), "missing_seeds": ""}
        for quantity in QUANTITIES:
            plain, anew = (_values(cell, value, quantity) for value in VALUES)
            for value, own in zip(VALUES, (plain, anew), strict=True):
                mean, default = summarise(own.values()), value == VALUES[0]
                row = place | {"value": value, "is_default": default, "quantity": quantity, "n": mean.n}
                row |= {"mean": mean.mean, "sd": mean.sd, "verdict": "default" if default else ""}
                if not default:
                    shift = paired(anew, plain)
                    row |= {"difference": shift.mean, "low": shift.low, "high": shift.high, "pairs": shift.n}
                yield row


def _values(cell: Cell, value: str, quantity: str) -> dict[int, float]:
    """The quantity at the last evaluation, by seed."""
    values: dict[int, float] = {}
    for record in cell.finished:
        anew = record.result.measured.get("recalibrated")
        if anew is None:
            continue
        accuracies = {name: anew[name]["accuracy"] for name in ("train", "test")}
        numbers = {
            "test_accuracy": accuracies["test"],
            "train_accuracy": accuracies["train"],
            "gap": accuracies["train"] - accuracies["test"],
            "test_gradient_norm": anew["test"]["gradient_norm"],
        }
        values[record.result.seed] = record.result.final[quantity] if value == VALUES[0] else numbers[quantity]
    return values


def table(part: pd.DataFrame) -> list[list[str]]:
    """One line a cell."""
    lines = [["setting", "B", "method", "n", *QUANTITIES.values()]]
    for (setting, size, method), own in part.groupby(["setting", "batch_size", "method"], sort=False):
        by = {(row["quantity"], row["value"]): row for row in own.to_dict("records")}
        count = str(by["test_accuracy", VALUES[0]]["n"])
        lines.append([title_of(str(setting)), f"{size:g}", str(method), count, *(_cell(by, q) for q in QUANTITIES)])
    return lines


def _cell(by: dict[tuple[Any, Any], dict[Any, Any]], quantity: str) -> str:
    plain, anew = (by[quantity, value] for value in VALUES)
    if not is_given(anew["difference"]):
        return "-"
    text = f"{plain['mean']:.3f} / {anew['mean']:.3f}<br>{anew['difference']:+.3f}"
    return text + (f" [{anew['low']:+.3f}, {anew['high']:+.3f}]" if is_given(anew["low"]) else "")


def judge(part: pd.DataFrame) -> list[str]:
    """The parts of the rule, a line each."""
    anew = part[(part["value"] == VALUES[1]) & (part["quantity"] == "test_accuracy")].dropna(subset=["difference"])
    apart = anew[anew["difference"].abs() > LIMIT]
    lines = [
        f"1. The two test accuracies are more than {100 * LIMIT:g} point apart in {len(apart)} of {len(anew)} cells."
    ]
    means = {
        (r["setting"], r["batch_size"], r["quantity"], r["method"], r["value"]): r["mean"]
        for r in part.to_dict("records")
    }
    turned, judged = [], 0
    for setting, size, quantity in dict.fromkeys(key[:3] for key in means if key[2] in ("test_accuracy", "gap")):
        methods = [[means.get((setting, size, quantity, m, v)) for v in VALUES] for m in ("spectral", "vanilla")]
        if not all(is_given(mean) for method in methods for mean in method):
            continue
        judged += 1
        running, recalibrated = (spectral - vanilla for spectral, vanilla in zip(*methods, strict=True))
        if running * recalibrated < 0:
            turned.append(
                f"{QUANTITIES[quantity]} of {title_of(setting)}, B={size:g} ({running:+.3f} / {recalibrated:+.3f})"
            )
    lines.append(
        f"2. Spectral less vanilla has another sign in {len(turned)} of {judged}: {'; '.join(turned) or 'none'}."
    )
    return lines
