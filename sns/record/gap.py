"""The generalization gap at alpha, defined once for those who write records and those who read
them."""

from collections.abc import Iterable, Mapping
from typing import Any


def gap_at_alpha(history: Iterable[Mapping[str, Any]], alpha: float | None) -> tuple[float, float] | None:
    """The smallest train_accuracy - test_accuracy over the rows whose test accuracy exceeds `alpha`
    (section 4.1).

    `history` holds rows with `epoch`, `train_accuracy` and `test_accuracy` (fractions). Returns
    (gap, epoch of the first row that attains it), or None where no test accuracy is strictly
    greater than alpha or alpha is None.
    """
    if alpha is None:
        return None
    smallest: tuple[float, float] | None = None
    for row in history:
        gap = float(row["train_accuracy"]) - float(row["test_accuracy"])
        # A comparison with NaN is false, so that rows which are not finite never count.
        if row["test_accuracy"] > alpha and gap < (float("inf") if smallest is None else smallest[0]):
            smallest = (gap, float(row["epoch"]))
    return smallest
