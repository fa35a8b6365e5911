"""The sensitivity studies as CSV and as a Markdown page: first what changes, then the numbers."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from sns.analysis.cells import is_given, methods_of, title_of
from sns.analysis.sensitivity import batch_norm
from sns.analysis.sensitivity.compute import CHANGES, DEFAULT, DEFINITION, DEFINITIONS, NOTHING, QUANTITIES, UNKNOWN
from sns.analysis.sensitivity.studies import STUDIES, Study

HOW = (
    "Each study varies one field of the configuration; the default is the setting's own value. Mean ± sd over n seeds "
    "at the last evaluation; below it the difference to the default, paired by seed, with its 95% t interval. If the "
    "interval excludes zero, the difference is **bold** and the verdict is `changes`. Else it is `no change found`, "
    "which with three seeds does not prove that nothing changes. Accuracies and gaps are fractions."
)
RUNNING = (
    "The gap is training minus test accuracy. evaluation: training accuracy in evaluation mode over the whole training "
    "set (ours). running: training accuracy in training mode, mean over the images since the previous evaluation, so "
    "with dropout, batch statistics and older weights. Means over seeds, evaluation / running. Order: methods from the "
    "smallest gap to the largest; their differences may be smaller than the sd over seeds (in the CSV)."
)
Row = dict[Any, Any]


def to_csv(frame: pd.DataFrame) -> str:
    """Every column of `sensitivity.compute`, floats in full."""
    whole = dict.fromkeys(("batch_size", "pairs", "rank"), "Int64")
    return frame.astype(whole).to_csv(index=False)


def to_markdown(frame: pd.DataFrame) -> str:
    """The page: a summary with a line for each study and cell, a table for each study, both
    definitions of training accuracy, notes."""
    lines = ["# Sensitivity to choices that the paper leaves open", "", HOW, "", *_summary(frame)]
    rules = frame.attrs.get("rules", {})
    for study in STUDIES:
        lines += ["", f"## {study.name}: {study.question}", "", *_table(study, frame[frame["study"] == study.name])]
        lines += ["", *rules[study.name]] if study.name in rules else []
    part = frame[frame["study"] == batch_norm.STUDY]
    lines += ["", f"## {batch_norm.STUDY}: What do running statistics hide under dropout?", "", batch_norm.ABOUT, ""]
    lines += ["not run"] if part.empty else [*_markdown(batch_norm.table(part)), "", *batch_norm.judge(part)]
    lines += ["", f"## {DEFINITION}: Is training accuracy taken in evaluation mode or running?", "", RUNNING, ""]
    lines += _definitions(frame[frame["study"] == DEFINITION])
    return "\n".join([*lines, "", *(f"- {note}" for note in [_chance(frame), *frame.attrs.get("notes", [])]), ""])


def _markdown(table: Sequence[Sequence[str]]) -> list[str]:
    head, *body = table
    return ["| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *body)]


def _cells(study: Study, part: pd.DataFrame) -> Iterator[tuple[str, str, str, list[Row]]]:
    """Setting, batch, methods and rows of each cell of a study."""
    for setting, regime, methods in itertools.product(study.settings, study.regimes, study.cells):
        own = part[(part["setting"] == setting) & (part["regime"] == regime) & part["method"].isin(methods)]
        rows: list[Row] = own.to_dict("records")
        sizes = sorted({str(int(row["batch_size"])) for row in rows if is_given(row["batch_size"])})
        yield title_of(setting), "/".join(sizes) or regime, ", ".join(methods), rows


def _summary(frame: pd.DataFrame) -> list[str]:
    """A line for each cell of each study, and one for the definition of training accuracy."""
    table = [["study", "setting", "B", "method", "values (default)", "test accuracy", "gap", "also changes"]]
    for study in STUDIES:
        for setting, size, methods, rows in _cells(study, frame[frame["study"] == study.name]):
            place = [study.name, setting, size, methods]
            values = dict.fromkeys(f"({row['value']})" if row["is_default"] else str(row["value"]) for row in rows)
            if study.field == "method.name":
                place[-1] = "-"
            answers = [_answer([row for row in rows if row["quantity"] == name]) for name in ("test_accuracy", "gap")]
            others = [label for name, label in QUANTITIES.items() if name not in ("test_accuracy", "gap")
                      and any(row["quantity"] == name and row["verdict"] == CHANGES for row in rows)]  # fmt: skip
            table.append([*place, ", ".join(values), *answers, ", ".join(others) or "-"])
    return [*_markdown(table), "", _rankings(frame[frame["study"] == DEFINITION])]


def _rankings(part: pd.DataFrame) -> str:
    if part.empty:
        return f"{DEFINITION}: not run."
    changes = []
    for quantity, words in (("gap", "the final gap"), ("gap_at_alpha", "the gap at alpha")):
        places = part[part["quantity"] == quantity].groupby(["setting", "regime"])
        ranks = [rows.pivot(index="method", columns="value", values="rank") for _, rows in places]
        moved = sum(bool((table.nunique(axis=1) > 1).any()) for table in ranks)
        changes.append(f"for {words} in {moved} of {len(ranks)} settings and batches")
    return f"{DEFINITION}: by the running training accuracy the ranking of the methods changes {' and '.join(changes)}."


def _answer(rows: list[Row]) -> str:
    """The verdicts of one quantity over the values of a cell, in words."""
    changed = [f"{row['value']}: {_signed(row['difference'])}" for row in rows if row["verdict"] == CHANGES]
    unknown = [str(row["value"]) for row in rows if row["verdict"] == UNKNOWN]
    words = [f"{CHANGES} ({', '.join(changed)})"] if changed else []
    words += [NOTHING] if not changed and any(row["verdict"] == NOTHING for row in rows) else []
    return "; ".join([*words, *([f"{UNKNOWN}: {', '.join(unknown)}"] if unknown else [])]) or DEFAULT


def _table(study: Study, part: pd.DataFrame) -> list[str]:
    shown = [name for name in QUANTITIES if part[part["quantity"] == name]["n"].sum() or name != "operator_norm"]
    several = len(study.settings) > 1
    head = ["B", "method", f"`{study.field}`", "n", *(QUANTITIES[name] for name in shown)]
    table = [["setting", *head] if several else head]
    missing = []
    for setting, size, methods, rows in _cells(study, part):
        absent = []
        for value in dict.fromkeys(row["value"] for row in rows):
            own = {row["quantity"]: row for row in rows if row["value"] == value}
            first = own["test_accuracy"]
            lost = first["runs"] - first["n"]
            count = f"{first['n']}" + (f" ({lost} of {first['runs']} did not complete)" if lost else "")
            name = f"{value} (default)" if first["is_default"] else str(value)
            line = [size, first["method"], name, count, *(_number(own[quantity]) for quantity in shown)]
            table.append([setting, *line] if several else line)
            if first["missing_seeds"]:
                seeds = f" (seed {first['missing_seeds'].replace(' ', ', ')})" if first["runs"] else ""
                absent.append(f"{study.field}={value}{seeds}")
        if absent:
            place = (f"{setting}, " if several else "") + f"B={size}"
            place += "" if study.field == "method.name" else f", {methods}"
            missing.append(f"- Not run, {place}: {'; '.join(absent)}.")
    return [*_markdown(table), *(["", *missing] if missing else [])]


def _number(row: Row) -> str:
    if not row["n"]:
        return "-"
    text = f"{row['mean']:.3f}" + (f" ± {row['sd']:.3f}" if is_given(row["sd"]) else "")
    if row["verdict"] == DEFAULT or not is_given(row["difference"]):
        return text
    shift = _signed(row["difference"])
    shift = f"**{shift}**" if row["verdict"] == CHANGES else shift
    interval = f" [{_signed(row['low'])}, {_signed(row['high'])}]" if is_given(row["low"]) else ""
    return f"{text}<br>{shift}{interval}"


def _signed(value: float) -> str:
    """Three decimals, or one digit of a number that would be rounded to zero."""
    return f"{value:+.0e}" if 0 < abs(value) < 5e-4 else f"{value:+.3f}"


def _definitions(part: pd.DataFrame) -> list[str]:
    if part.empty:
        return ["not run"]
    names = methods_of(part)
    table = [["setting", "B", "gap", *names, "order by evaluation", "order by running", "ranking"]]
    for (setting, regime, quantity), rows in part.groupby(["setting", "regime", "quantity"], sort=False):
        by = {(row["method"], row["value"]): row for row in rows.to_dict("records")}
        size = sorted({str(int(row["batch_size"])) for row in by.values()})
        orders = [_order(by, names, definition) for definition in DEFINITIONS]
        verdict = "-" if not orders[0] else CHANGES if orders[0] != orders[1] else "the same"
        cells = [" / ".join(_mean(by.get((name, definition))) for definition in DEFINITIONS) for name in names]
        counts = {by[name, DEFINITIONS[0]]["n"] for name in names if (name, DEFINITIONS[0]) in by}
        when = (
            "final" if quantity == "gap" else "at alpha"
        ) + f" (n {'-'.join(map(str, sorted({min(counts), max(counts)})))})"
        table.append(
            [
                title_of(str(setting)),
                "/".join(size) or str(regime),
                when,
                *cells,
                *(", ".join(order) or "-" for order in orders),
                verdict,
            ]
        )
    return _markdown(table)


def _order(by: dict[tuple[Any, Any], Row], names: list[str], definition: str) -> list[str]:
    ranked = [(by[name, definition]["rank"], name) for name in names if (name, definition) in by]
    return [name for rank, name in sorted(ranked, key=lambda pair: pair[0]) if is_given(rank)]


def _mean(row: Row | None) -> str:
    return f"{row['mean']:.3f}" if row is not None and row["n"] else "-"


def _chance(frame: pd.DataFrame) -> str:
    judged = frame[(frame["study"] != DEFINITION) & frame["verdict"].isin([CHANGES, NOTHING])]
    changed = int((judged["verdict"] == CHANGES).sum())
    return (
        f"{len(judged)} differences are judged, {changed} of them `{CHANGES}`; if no choice mattered, about "
        f"{0.05 * len(judged):.0f} of them would be so by chance."
    )


FORMATS = {"csv": to_csv, "md": to_markdown}
