"""The sentences on top of the report: what the runs show, computed from their records."""

from collections.abc import Iterator

import pandas as pd

from sns.analysis.cells import REGIMES, Results, methods_of
from sns.analysis.figures import summary
from sns.analysis.stats import summarise
from sns.common.errors import RecordError

CELL = (
    "A cell is one setting, method and batch size. It counts as higher or lower if the 95% interval of its difference, "
    "paired over seeds, excludes zero."
)
MOST = 5  # methods in a sentence
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
    count = frame["method"].nunique()
    best = f", the best {MOST} of {count}" if count > MOST else ""
    texts = [
        (
            f"Test accuracy against {summary.BASE}, mean over cells{best}:",
            f"{_compared(accuracy, 'higher', 'lower')}. {CELL}",
        ),
        ("Training minus test accuracy, likewise:", f"{_compared(gap, 'lower', 'higher')}."),
    ]
    if by_batch := ", ".join(_by_batch(results, accuracy)):
        texts.append(
            ("With the large instead of the small batch", f"the difference in test accuracy goes {by_batch}. {DOSE}")
        )
    return texts


def _ordered(part: pd.DataFrame, good: str) -> list[tuple[str, pd.DataFrame]]:
    """The MOST methods with the best mean difference, each with its rows, the best first."""
    groups = [(name, part[part["method"] == name]) for name in methods_of(part)]
    return sorted(groups, key=lambda group: group[1]["difference"].mean(), reverse=good == "higher")[:MOST]


def _compared(part: pd.DataFrame, good: str, bad: str) -> str:
    """For each method the mean difference over its cells, and how many cells are on either side."""
    texts = []
    for method, rows in _ordered(part, good):
        count = {"higher": int((rows["low"] > 0).sum()), "lower": int((rows["high"] < 0).sum())}
        sides = f"{good} in {count[good]}" + (f" and {bad} in {count[bad]}" if count[bad] else "")
        texts.append(f"{method} {_points(rows)} points ({sides} of {len(rows)} cells)")
    return ", ".join(texts)


def _points(rows: pd.DataFrame) -> str:
    return f"{100 * rows['difference'].mean():+.1f}".replace("-", "−")  # a minus sign, not a hyphen


def _by_batch(results: Results, accuracy: pd.DataFrame) -> Iterator[str]:
    """For each method that has both batch sizes, its difference and its mean dose with the small
    and the large one."""
    for method, rows in _ordered(accuracy, "higher"):
        parts = [rows[rows["regime"] == regime] for regime in REGIMES]
        if any(part.empty for part in parts):
            continue
        cells = [[c for c in results.cells if (c.method, c.regime) == (method, regime)] for regime in REGIMES]
        small, large = (
            summarise(r.result.dose.get("e_folds") for c in each for r in c.finished).mean for each in cells
        )
        dose = "" if small is None or large is None else f" (its dose from {small:.3g} to {large:.3g})"
        yield f"from {_points(parts[0])} to {_points(parts[1])} points for {method}{dose}"
