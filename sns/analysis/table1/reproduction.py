"""Whether a number of the paper's Table 1 is reproduced.

The rule was fixed before any full run existed. It takes the paper's value as one more run of the
same cell, of unknown seed. With mean m and standard deviation s of n >= 2 runs, the value is
reproduced if

    |m - paper| <= t(0.975, n - 1) * s * sqrt(1 + 1/n) + 0.0005.

The first term is the 95% prediction interval for one further run, the second half a unit of the
paper's third decimal. Tables print the right side with each result, because a wide interval accepts
nearly anything. An interval wider than the distance between the paper's best and worst method of
that line is marked WIDE.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import pandas as pd

from sns.analysis.cells import PAPER, Cell
from sns.analysis.stats import Summary, prediction_half_width
from sns.common.errors import RecordError
from sns.common.files import read_yaml

PAPER_EPOCHS = 300
COLUMNS = {"accuracy": "test_accuracy", "gap": "generalization_gap"}  # of results/paper/table1.csv
ROUNDING = 0.0005  # the paper prints three decimals
SLACK = 1e-12  # for rounding of binary fractions: 0.8985 - 0.898 must not exceed ROUNDING
STATES = REPRODUCED, MISSED, UNDECIDED, NOT_JUDGED, NOT_RUN = (
    "reproduced",
    "not reproduced",
    "undecided",
    "not judged",
    "not run",
)
WIDE = "wide"
LEGEND = (
    "The paper's value is taken as one more run of the cell, of unknown seed. It is reproduced if it lies in the 95% "
    "prediction interval of our n runs: |mean - paper| <= x with x = t(0.975, n-1) sd sqrt(1 + 1/n) + 0.0005 (the "
    "paper's rounding). This assumes that all runs, the paper's included, are normally distributed with one standard "
    "deviation. One of 20 faithful cells is expected to fail. Two seeds make x 15.6 sd, three 5.0 sd, five 3.0 sd.",
    "✓ within ±x: reproduced. ≈ within ±x: reproduced, but x exceeds the distance between the paper's best and worst "
    "method of that line, so nearly any value would be. ✗ above or below, ±x: not reproduced; our mean lies on that "
    "side of the paper's value. ✗ also where all of several runs diverged, or none of them exceeded alpha.",
    "? undecided: one seed, a run that diverged or failed, or alpha not exceeded in every run. – not judged: another "
    f"schedule than {PAPER_EPOCHS} epochs, or another value of what the paper states (results/paper/stated.yaml).",
)


@dataclass(frozen=True)
class Reproduction:
    """How a number compares with the paper's: one of STATES, "" where the paper prints none; the
    reason; and the right side of the rule."""

    state: str = ""
    reason: str = ""
    interval: float | None = None


def assess(
    block: str, cell: Cell, values: Summary, printed: Mapping[str, Any], line: Iterable[Mapping[str, Any]]
) -> Reproduction:
    """Applies the rule of this module to one number of a cell.

    `block` is accuracy or gap. `values` summarises the runs that completed and have the number.
    `printed` is the paper's row of the cell, `line` its rows of the same setting and batch size.
    One run decides nothing, whether it completed or diverged. A mean over some of several runs is
    not compared. If all of several runs diverged, or none exceeded alpha, the number is not
    reproduced, because the paper's runs did not diverge and did exceed alpha.
    """
    paper = printed.get(COLUMNS[block])
    if paper is None:
        return Reproduction()
    if not cell.records:
        return Reproduction(NOT_RUN)
    if (other := departure(block, cell, printed)) is not None:
        return Reproduction(NOT_JUDGED, f"other {other}")
    ends = [record.result.status for record in cell.records]
    if len(ends) < 2:
        return Reproduction(UNDECIDED, "one seed")
    if set(ends) == {"diverged"}:
        return Reproduction(MISSED, "diverged")
    if set(ends) != {"ok"}:
        return Reproduction(UNDECIDED, "runs lost")
    if values.n == 0:
        return Reproduction(MISSED, "alpha never exceeded")
    if values.n < len(ends):
        return Reproduction(UNDECIDED, "alpha not always exceeded")
    return _compare(values, paper, [row[COLUMNS[block]] for row in line])


def _compare(values: Summary, paper: float, line: list[float]) -> Reproduction:
    half = prediction_half_width(values)
    assert half is not None, "assess makes sure that n >= 2"
    assert values.mean is not None
    interval, difference = half + ROUNDING, values.mean - paper
    if abs(difference) > interval + SLACK:
        return Reproduction(MISSED, "above" if difference > 0 else "below", interval)
    return Reproduction(REPRODUCED, WIDE if interval > max(line) - min(line) + SLACK else "", interval)


def departure(block: str, cell: Cell, printed: Mapping[str, Any]) -> str | None:
    """The first thing in which the runs of a cell differ from what the paper states, or None.

    The runs of a cell share their options, so only the first is read. An option that its
    configuration does not have (because the record is older) counts as the paper's.
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
    content: dict[str, Any] = read_yaml(PAPER / "stated.yaml")
    return content


def mark(row: Mapping[str, Any], block: str) -> str:
    """The verdict in a row of Table 1 in short, such as `✓ within ±0.012`; empty where there is
    none."""
    state, reason = row[f"{block}_verdict"], row[f"{block}_reason"].replace("alpha", "α")
    if state == REPRODUCED:
        return f"{'≈' if reason == WIDE else '✓'} within ±{row[f'{block}_interval']:.3f}"
    if state == MISSED:
        return f"✗ {reason}" + (f", ±{row[f'{block}_interval']:.3f}" if reason in ("above", "below") else "")
    return {UNDECIDED: f"? {reason}", NOT_JUDGED: f"– {reason}"}.get(state, "")


def tally(frame: pd.DataFrame, block: str) -> str:
    """One line on a whole table, such as `accuracy: 5 of 9 judged cells reproduced, 4 not; 23 not
    run`; empty where the paper has none of its cells."""
    states = list(frame[f"{block}_verdict"])
    count = {state: states.count(state) for state in STATES}
    if not sum(count.values()):
        return ""
    wide = int((frame[f"{block}_reason"] == WIDE).sum())
    judged = count[REPRODUCED] + count[MISSED]
    line = f"{block}: no cell judged"
    if judged:
        weak = f" ({wide} of them ≈, in too wide an interval)" if wide else ""
        line = f"{block}: {count[REPRODUCED]} of {judged} judged cells reproduced{weak}, {count[MISSED]} not"
    others = [f"{count[state]} {state}" for state in (UNDECIDED, NOT_JUDGED, NOT_RUN) if count[state]]
    return "; ".join([line, ", ".join(others)] if others else [line])
