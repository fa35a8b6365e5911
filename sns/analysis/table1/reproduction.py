"""Whether a number of Table 1 is reproduced: its distance from ours against what the seeds differ
by.

The rule, fixed before any full run existed. The paper's value is taken as one more run of the same
cell, of unknown seed. Of n >= 2 runs with mean m and standard deviation s it is reproduced if

    |m - paper| <= t(0.975, n - 1) * s * sqrt(1 + 1/n) + 0.0005,

the 95% prediction interval of one further run, and half a unit of the paper's third decimal; else
it is not. The right side stands beside each verdict, because a wide interval passes nearly
anything: one that exceeds the distance between the paper's own best and worst method of that line
is marked apart.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import pandas as pd
import yaml

from sns.analysis.cells import PAPER, Cell
from sns.analysis.stats import Summary, prediction_half_width
from sns.common.errors import RecordError

PAPER_EPOCHS = 300
COLUMNS = {"accuracy": "test_accuracy", "gap": "generalization_gap"}  # of results/paper/table1.csv
ROUNDING = 0.0005  # the paper prints three decimals
SLACK = 1e-12  # of binary fractions: 0.8985 - 0.898 is no more than ROUNDING
REPRODUCED, MISSED, UNDECIDED, NOT_JUDGED, NOT_RUN = (
    "reproduced",
    "not reproduced",
    "undecided",
    "not judged",
    "not run",
)
WIDE = "wide"
LEGEND = (
    "Verdicts take the paper's value as one more run of the cell, of unknown seed. Reproduced: it lies in the 95% "
    "prediction interval of our n runs, |mean - paper| <= x with x = t(0.975, n-1) sd sqrt(1 + 1/n) + 0.0005 (the "
    "paper's rounding). x takes the runs, the paper's included, as normally distributed with one spread: of 20 "
    "faithful cells one is expected to fail. Two seeds make x 15.6 sd, three 5.0, five 3.0.",
    "✓ within ±x: reproduced. ≈ within ±x: reproduced, but x exceeds the distance between the paper's best and worst "
    "method of that line, so that nearly anything would be. ✗ above or below, ±x: not reproduced, our mean lies on "
    "that side of the paper's value by more than x; ✗ also where all of several runs diverged, or none exceeded alpha.",
    "? undecided: one seed, a run lost (diverged or failed), or alpha not exceeded in every run. – not judged: another "
    f"schedule than {PAPER_EPOCHS} epochs, or another value of what the paper states (results/paper/stated.yaml).",
)


@dataclass(frozen=True)
class Verdict:
    """One of the five words, or "" where the paper printed no such number; why; the right side of
    the rule."""

    word: str = ""
    reason: str = ""
    interval: float | None = None


def judge(
    block: str, cell: Cell, values: Summary, printed: Mapping[str, Any], line: Iterable[Mapping[str, Any]]
) -> Verdict:
    """The verdict on one number of a cell; the module's docstring has the rule.

    `block` is accuracy or gap, `values` sums up those of the runs that ended well and have one,
    `printed` is the paper's row of the cell and `line` its rows of the same setting and batch size.
    A single run decides nothing, not even by diverging. A mean over survivors is not judged against
    one; that every one of several runs diverged, or none exceeded alpha, is a verdict, because the
    paper's did not or did.
    """
    paper = printed.get(COLUMNS[block])
    if paper is None:
        return Verdict()
    if not cell.records:
        return Verdict(NOT_RUN)
    if (other := departure(block, cell, printed)) is not None:
        return Verdict(NOT_JUDGED, f"other {other}")
    ends = [record.result.status for record in cell.records]
    if len(ends) < 2:
        return Verdict(UNDECIDED, "one seed")
    if set(ends) == {"diverged"}:
        return Verdict(MISSED, "diverged")
    if set(ends) != {"ok"}:
        return Verdict(UNDECIDED, "runs lost")
    if values.n < len(ends):
        return Verdict(UNDECIDED, "alpha not always exceeded") if values.n else Verdict(MISSED, "alpha never exceeded")
    return _compare(values, paper, [row[COLUMNS[block]] for row in line])


def _compare(values: Summary, paper: float, line: list[float]) -> Verdict:
    half = prediction_half_width(values)
    assert half is not None, "judge sees to n >= 2"
    assert values.mean is not None
    interval, difference = half + ROUNDING, values.mean - paper
    if abs(difference) > interval + SLACK:
        return Verdict(MISSED, "above" if difference > 0 else "below", interval)
    return Verdict(REPRODUCED, WIDE if interval > max(line) - min(line) + SLACK else "", interval)


def departure(block: str, cell: Cell, printed: Mapping[str, Any]) -> str | None:
    """The first thing in which the runs of a cell differ from what the paper states, or None.

    The runs of a cell share their options; those of the first are read. Options that its
    configuration does not have, as one older than an option, are taken as the paper's.
    """
    result = cell.records[0].result
    if result.epochs != PAPER_EPOCHS:
        return "schedule"
    if result.batch_size != printed["batch_size"]:
        return "batch size"
    if block == "gap" and result.measured.get("alpha") != printed["alpha"]:
        return "alpha"
    try:
        config = cell.records[0].config
    except RecordError:
        config = {}
    if not config:
        return "or unknown options"
    stated = _stated()
    rate = {"optim.lr": stated["learning_rate"][cell.setting][cell.regime]}
    options: dict[str, Any] = {**stated["every"], **rate, **stated["method"][cell.method]}
    for name, value in options.items():
        group, key = name.split(".")
        section = config.get(group)
        if isinstance(section, dict) and section.get(key, value) != value:
            return name
    return None


@cache
def _stated() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((PAPER / "stated.yaml").read_text(encoding="utf-8"))
    return content


def text(row: Mapping[str, Any], block: str) -> str:
    """The verdict of a row of Table 1 in a few words, such as `✓ within ±0.012`; empty where there
    is none to give."""
    word, reason = row[f"{block}_verdict"], row[f"{block}_reason"].replace("alpha", "α")
    if word == REPRODUCED:
        return f"{'≈' if reason == WIDE else '✓'} within ±{row[f'{block}_interval']:.3f}"
    if word == MISSED:
        return f"✗ {reason}" + (f", ±{row[f'{block}_interval']:.3f}" if reason in ("above", "below") else "")
    return {UNDECIDED: f"? {reason}", NOT_JUDGED: f"– {reason}"}.get(word, "")


def tally(frame: pd.DataFrame, block: str) -> str:
    """One line on a whole table, such as `accuracy: 5 of 9 judged cells reproduced, 4 not; 23 not
    run`; empty where the paper has none of its cells."""
    words = list(frame[f"{block}_verdict"])
    count = {word: words.count(word) for word in (REPRODUCED, MISSED, UNDECIDED, NOT_JUDGED, NOT_RUN)}
    if not sum(count.values()):
        return ""
    wide = int((frame[f"{block}_reason"] == WIDE).sum())
    judged = count[REPRODUCED] + count[MISSED]
    said = f"{block}: no cell judged"
    if judged:
        weak = f" ({wide} of them ≈, in too wide an interval)" if wide else ""
        said = f"{block}: {count[REPRODUCED]} of {judged} judged cells reproduced{weak}, {count[MISSED]} not"
    others = [f"{count[word]} {word}" for word in (UNDECIDED, NOT_JUDGED, NOT_RUN) if count[word]]
    return "; ".join([said, ", ".join(others)] if others else [said])
