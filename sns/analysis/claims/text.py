"""The verdicts on the claims as a frame, Markdown, JSON and text for a terminal."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from sns.analysis.cells import TITLES
from sns.analysis.claims.verdicts import Verdict

MARKS = {"supported": "✓", "contradicted": "✗", "undecided": "?"}


def to_frame(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """One row a claim, without the single comparisons."""
    rows = []
    for verdict in verdicts:
        row: dict[str, Any] = asdict(verdict)
        for name in ("comparisons", "states", "missing"):
            del row[name]
        row["settings"] = " ".join(verdict.settings)
        rows.append(row)
    return pd.DataFrame(rows)


def to_csv(verdicts: Sequence[Verdict]) -> str:
    """`to_frame` as CSV."""
    return to_frame(verdicts).to_csv(index=False)


def to_json(verdicts: Sequence[Verdict]) -> str:
    """Everything, every comparison with its interval and one-sided probabilities included."""
    content = {"scope": scope_note(verdicts), "claims": [asdict(verdict) for verdict in verdicts]}
    return json.dumps(content, indent=1) + "\n"


def scope_note(verdicts: Sequence[Verdict]) -> str:
    """One sentence that says on which settings the verdicts were reached."""
    names = ", ".join(dict.fromkeys(name for verdict in verdicts for name in verdict.settings))
    if all(verdict.on_paper_settings for verdict in verdicts):
        return f"Judged on the paper's settings: {names}."
    return (
        f"Judged on {names}, not only the paper's settings: such a verdict says nothing about the paper's own numbers."
    )


def counts(verdicts: Sequence[Verdict]) -> str:
    """`3 supported, 1 contradicted, 30 undecided`."""
    names = [verdict.verdict for verdict in verdicts]
    return ", ".join(f"{names.count(name)} {name}" for name in ("supported", "contradicted", "undecided"))


def interval(verdict: Verdict) -> str:
    """The decisive margin with its interval and n, such as `+0.012 [+0.004, +0.020], n=5`; a dash
    without a run."""
    if verdict.margin is None:
        return "–"
    if verdict.low is None or verdict.high is None:
        return f"{verdict.margin:+.3g}, n={verdict.n}"
    return f"{verdict.margin:+.3g} [{verdict.low:+.3g}, {verdict.high:+.3g}], n={verdict.n}"


def paper(verdict: Verdict) -> str:
    """What the printed table says, with the count of units."""
    return f"{verdict.paper} ({verdict.paper_count})" if verdict.paper_count else verdict.paper


def to_markdown(verdicts: Sequence[Verdict]) -> str:
    """A table of the verdicts, then every rule."""
    lines = ["# Claims", "", f"{scope_note(verdicts)} {counts(verdicts).capitalize()}.", ""]
    lines += [
        "| section | claim | verdict | units holding | margin | why | printed Table 1 |",
        "|---|---|---|---|---|---|---|",
    ]
    for v in verdicts:
        cells = (v.section, v.statement, v.verdict, f"{v.units_holding} of {v.units}", interval(v), v.reason, paper(v))
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
    lines += [
        "",
        "Margin: how far the decisive inequality holds (negative: fails), its t interval and the seeds.",
        "",
        "## Rules",
        "",
    ]
    lines += [f"- **{v.id}** ({v.section}, {v.where}): {v.rule}" for v in verdicts]
    return "\n".join(lines) + "\n"


def by_setting(verdicts: Mapping[str, Sequence[Verdict]]) -> str:
    """One line a claim, one column a setting: the claims judged on each setting alone, with the
    units that hold; a dash where the claim is about other settings.

    `verdicts`: for each setting those on all claims, in the same order.
    """
    names = list(verdicts)
    heads = [f"{TITLES.get(name, name)}: {counts([v for v in verdicts[name] if v.units])}" for name in names]
    lines = ["| section | claim | printed Table 1 | " + " | ".join(heads) + " |", "|---" * (len(names) + 3) + "|"]
    for row in zip(*verdicts.values(), strict=True):
        first = row[0]
        told = [f"{MARKS[v.verdict]} {v.verdict} ({v.units_holding} of {v.units})" if v.units else "–" for v in row]
        cells = [first.section, first.statement, paper(first), *told]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, ""])


def to_plain(verdicts: Sequence[Verdict]) -> str:
    """Three lines a claim, for a terminal."""
    lines = [scope_note(verdicts), ""]
    for v in verdicts:
        lines.append(f"{v.verdict.upper():<13}{v.section:<4} {v.statement}")
        lines.append(f"{'':<18}{v.reason}")
        lines.append(f"{'':<18}margin {interval(v)}; printed table: {paper(v)}")
    return "\n".join([*lines, "", f"{counts(verdicts).capitalize()}."])
