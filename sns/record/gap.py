"""The generalization gap at alpha, defined once for code that writes or reads records."""

from collections.abc import Iterable, Mapping
from typing import Any


def gap_at_alpha(history: Iterable[Mapping[str, Any]], alpha: float | None) -> tuple[float, float] | None:
    """The smallest accuracy gap over the rows whose test accuracy exceeds `alpha` (section 4.1).

    `history` holds rows with `epoch`, `train_accuracy` and `test_accuracy` (fractions); the gap is
    their difference. Returns the gap and the epoch of the first row that attains it. None if no
    test accuracy is strictly greater than alpha, or alpha is None.
    """
    if alpha is None:
        return None
    smallest: tuple[float, float] | None = None
    for row in history:
        gap = float(row["train_accuracy"]) - float(row["test_accuracy"])
        # A comparison with NaN is false, so that rows with NaN never count.
        if row["test_accuracy"] > alpha and gap < (float("inf") if smallest is None else smallest[0]):
            smallest = (gap, float(row["epoch"]))
    return smallest
