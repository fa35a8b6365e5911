"""The sentences on top of the report: what the runs show, computed from their records."""

from collections.abc import Iterator

import pandas as pd

from sns.analysis.cells import REGIMES, Results
from sns.analysis.figures import plotted, summary
from sns.analysis.stats import summarise
from sns.common.errors import RecordError

CELL = (
    "A cell is one setting, method and batch size. It counts as higher or lower if the 95% interval of its difference, "
    "paired over seeds, excludes zero."
)
DOSE = "The dose is the number of factors of e by which the penalty alone would shrink what it penalises."


def finding(results: Results) -> list[tuple[str, str]]:
    """Heading and text on test accuracy, gap and batch size, each against vanilla; none where no
    cell can be compared with vanilla."""
    try:
        frame = summary.compute(results)
    except RecordError:
        return []
    frame = frame[(frame["method"] != summary.BASE) & frame["difference"].notna()]
    if frame.empty:
        return []
    accuracy, gap = (frame[frame["quantity"] == quantity] for quantity in ("test_accuracy", "gap"))
    texts = [
        (
            f"Test accuracy against {summary.BASE}, mean over cells:",
            f"{_compared(accuracy, 'higher', 'lower')}. {CELL}",
        ),
        ("Training minus test accuracy, likewise:", f"{_compared(gap, 'lower', 'higher')}."),
    ]
    if by_batch := ", ".join(_by_batch(results, accuracy)):
        texts.append(
            ("With the large instead of the small batch", f"the difference in test accuracy goes {by_batch}. {DOSE}")
        )
    return texts


def _ordered(part: pd.DataFrame, good: str) -> list[str]:
    """The methods, the one with the best mean difference first."""
    means = {name: part[part["method"] == name]["difference"].mean() for name in plotted.methods(part)}
    return sorted(means, key=lambda name: means[name], reverse=good == "higher")


def _compared(part: pd.DataFrame, good: str, bad: str) -> str:
    """For each method the mean difference over its cells, and how many cells are on either side."""
    texts = []
    for method in _ordered(part, good):
        rows = part[part["method"] == method]
        count = {"higher": int((rows["low"] > 0).sum()), "lower": int((rows["high"] < 0).sum())}
        sides = f"{good} in {count[good]}" + (f" and {bad} in {count[bad]}" if count[bad] else "")
        texts.append(f"{method} {_points(rows)} points ({sides} of {len(rows)} cells)")
    return ", ".join(texts)


def _points(rows: pd.DataFrame) -> str:
    return f"{100 * rows['difference'].mean():+.1f}".replace("-", "−")  # a minus sign, not a hyphen


def _by_batch(results: Results, accuracy: pd.DataFrame) -> Iterator[str]:
    """For each method that has both batch sizes, its difference and its dose with the small and the
    large one."""
    for method in _ordered(accuracy, "higher"):
        parts = [accuracy[(accuracy["method"] == method) & (accuracy["regime"] == regime)] for regime in REGIMES]
        if any(part.empty for part in parts):
            continue
        small, large = map(_points, parts)
        text = f"from {small} to {large} points for {method}"
        doses = [_dose(results, method, regime) for regime in REGIMES]
        yield text if None in doses else f"{text} (its dose from {doses[0]:.3g} to {doses[1]:.3g})"


def _dose(results: Results, method: str, regime: str) -> float | None:
    """The mean dose of a method's finished runs, in e-folds; None where no run has one."""
    cells = [cell for cell in results.cells if (cell.method, cell.regime) == (method, regime)]
    return summarise(record.result.dose.get("e_folds") for cell in cells for record in cell.finished).mean
