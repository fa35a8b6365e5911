"""The verdicts on the claims as files (Markdown, CSV, JSON) and as text for a terminal."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from sns.analysis import cli
from sns.analysis.cells import Results, title_of
from sns.analysis.claims import verdicts as claims
from sns.analysis.claims.verdicts import ClaimVerdict

MARKS = {"supported": "✓", "contradicted": "✗", "undecided": "?"}
NOTE = (
    "Why: an undecided claim names the undecided comparison that is furthest from holding. Margin: by how much the "
    "decisive inequality holds (negative: it fails), with its t interval over n seeds."
)


def to_frame(verdicts: Sequence[ClaimVerdict]) -> pd.DataFrame:
    """One row a claim, without the single comparisons."""
    rows = []
    for verdict in verdicts:
        row: dict[str, Any] = asdict(verdict)
        for name in ("comparisons", "states", "missing"):
            del row[name]
        row["settings"] = " ".join(verdict.settings)
        rows.append(row)
    return pd.DataFrame(rows)


def write(results: Results, out: Path, settings: Sequence[str] | None = None) -> tuple[list[ClaimVerdict], str]:
    """Judges the claims and writes claims.md, .csv and .json to `out`; claims_by_setting.md too
    where no `settings` are given and the results have several.

    Returns the verdicts, and lines that name the files.
    """
    verdicts = claims.compute(results, settings)
    written = cli.save(out, "claims", {"md": to_markdown, "csv": to_csv, "json": to_json}, verdicts)
    if settings is None and len(results.settings) > 1:
        alone = {name: claims.compute(results, [name]) for name in results.settings}
        written += "\n" + cli.save(out, "claims_by_setting", {"md": by_setting}, alone)
    return verdicts, written


def to_csv(verdicts: Sequence[ClaimVerdict]) -> str:
    """`to_frame` as CSV."""
    return to_frame(verdicts).to_csv(index=False)


def to_json(verdicts: Sequence[ClaimVerdict]) -> str:
    """Everything, with the interval and the one-sided p-values of every comparison."""
    content = {"scope": scope_note(verdicts), "claims": [asdict(verdict) for verdict in verdicts]}
    return json.dumps(content, indent=1) + "\n"


def scope_note(verdicts: Sequence[ClaimVerdict]) -> str:
    """On which settings the claims were judged, and whether these are the paper's."""
    names = ", ".join(dict.fromkeys(name for verdict in verdicts for name in verdict.settings))
    if all(verdict.on_paper_settings for verdict in verdicts):
        return f"Judged on the paper's settings: {names}."
    return f"Judged on {names}: not the paper's settings, so the verdicts say nothing about the paper's own numbers."


def counts(verdicts: Sequence[ClaimVerdict]) -> str:
    """`3 supported, 1 contradicted, 30 undecided`."""
    names = [verdict.verdict for verdict in verdicts]
    return ", ".join(f"{names.count(name)} {name}" for name in ("supported", "contradicted", "undecided"))


def interval(verdict: ClaimVerdict) -> str:
    """The decisive margin with its interval and n, such as `+0.012 [+0.004, +0.020], n=5`; a dash
    without runs."""
    if verdict.margin is None:
        return "–"
    if verdict.low is None or verdict.high is None:
        return f"{verdict.margin:+.3g}, n={verdict.n}"
    return f"{verdict.margin:+.3g} [{verdict.low:+.3g}, {verdict.high:+.3g}], n={verdict.n}"


def paper(verdict: ClaimVerdict) -> str:
    """What the printed table says, with the number of units."""
    return f"{verdict.paper} ({verdict.paper_count})" if verdict.paper_count else verdict.paper


def to_markdown(verdicts: Sequence[ClaimVerdict]) -> str:
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
        NOTE,
        "",
        "## Rules",
        "",
    ]
    lines += [f"- **{v.id}** ({v.section}, {v.where}): {v.rule}" for v in verdicts]
    return "\n".join(lines) + "\n"


def by_setting(verdicts: Mapping[str, Sequence[ClaimVerdict]]) -> str:
    """A Markdown table: a line for each claim, a column for each setting judged alone, a dash where
    the claim is about other settings.

    `verdicts` holds for each setting the verdicts on all claims, in one order.
    """
    names = list(verdicts)
    heads = [f"{title_of(name)}: {counts([v for v in verdicts[name] if v.units])}" for name in names]
    lines = ["| section | claim | printed Table 1 | " + " | ".join(heads) + " |", "|---" * (len(names) + 3) + "|"]
    for row in zip(*verdicts.values(), strict=True):
        first = row[0]
        outcomes = [f"{MARKS[v.verdict]} {v.verdict} ({v.units_holding} of {v.units})" if v.units else "–" for v in row]
        cells = [first.section, first.statement, paper(first), *outcomes]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, ""])


def to_plain(verdicts: Sequence[ClaimVerdict]) -> str:
    """Three lines a claim, for a terminal."""
    lines = [scope_note(verdicts), ""]
    for v in verdicts:
        lines.append(f"{v.verdict.upper():<13}{v.section:<4} {v.statement}")
        lines.append(f"{'':<18}{v.reason}")
        lines.append(f"{'':<18}margin {interval(v)}; printed table: {paper(v)}")
    return "\n".join([*lines, "", f"{counts(verdicts).capitalize()}."])
