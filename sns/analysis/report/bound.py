"""The report's table on the bound of section 3.1: products of layer norms and the largest
input-Jacobian norm."""

import math
from collections.abc import Iterable
from typing import Any

from sns.analysis.cells import Cell, Results, title_of

COLUMNS = {
    "product_sigma": "Π σ, reshaped matrices",
    "product_operator_norm": "Π operator norm, exact",
    "jacobian_norm_max": "largest input-Jacobian norm",
}
RATIO = "Π operator norm / Jacobian norm"
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def bound(results: Results) -> dict[str, Any]:
    """Column names, for each setting a line for each measured cell, the numbers of images, and how
    many finished runs lack the measurement.

    Numbers are text in scientific notation, geometric means over seeds: products of norms differ by
    orders of magnitude between seeds, and the ratio of two such means is the mean of the ratios.
    """
    settings: dict[str, list[dict[str, Any]]] = {}
    images, without = set(), 0
    for cell in results.cells:
        measured = [record.result.measured.get("lipschitz") or {} for record in cell.finished]
        # A number that was not finite is recorded as null.
        entries = [entry for entry in measured if all(entry.get(key) is not None for key in COLUMNS)]
        without += len(cell.finished) - len(entries)
        if entries:
            settings.setdefault(title_of(cell.setting), []).append(_line(cell, entries))
            images |= {int(entry["samples"]) for entry in entries if entry.get("samples") is not None}
    return {"columns": [*COLUMNS.values(), RATIO], "settings": settings, "images": sorted(images), "without": without}


def _line(cell: Cell, entries: list[dict[str, float]]) -> dict[str, Any]:
    means = {key: geometric_mean(entry[key] for entry in entries) for key in COLUMNS}
    measured = means["jacobian_norm_max"]
    ratio = means["product_operator_norm"] / measured if measured > 0 else math.nan
    return {
        "batch": cell.records[0].result.batch_size,
        "method": cell.method,
        "n": len(entries),
        "values": [scientific(value) for value in (*means.values(), ratio)],
    }


def geometric_mean(values: Iterable[float]) -> float:
    """The geometric mean of numbers that are not negative; 0 where one of them is 0."""
    numbers = list(values)
    if min(numbers) <= 0:
        return 0.0
    return math.exp(math.fsum(map(math.log, numbers)) / len(numbers))


def scientific(value: float) -> str:
    """Three significant digits in scientific notation, 1.23 × 10⁴; a dash for what is not
    finite."""
    if not math.isfinite(value):
        return "–"
    digits, power = f"{value:.2e}".split("e")
    return f"{digits} × 10{str(int(power)).translate(SUPERSCRIPT)}"
