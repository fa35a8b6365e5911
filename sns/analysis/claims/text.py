"""The verdicts on the claims as files (Markdown, CSV, JSON) and as text for a terminal."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from sns.analysis import cli
from sns.analysis.cells import Results, title_of
from sns.analysis.claims.seeds import Judgement, by_claim, changed, judge
from sns.analysis.claims.tables import TABLES, markdown
from sns.analysis.claims.verdicts import ClaimVerdict

MARKS = {"supported": "✓", "contradicted": "✗", "undecided": "?"}
NOTE = (
    "Why: an undecided claim names the undecided comparison that is furthest from holding. Margin: by how much the "
    "decisive inequality holds (negative: it fails), with its t interval over n seeds."
)
LAST = " Units, margin and why are those of the last column of verdicts."
SHARED = ["id", "section", "where", "statement", "settings", "on_paper_settings", "paper", "paper_count", "rule"]
OWN = ["verdict", "reason", "units_holding", "units", "decisive", "margin", "low", "high", "n"]
Judged = Sequence[Judgement]


def to_frame(judged: Judged) -> pd.DataFrame:
    """One row a claim, without the single comparisons: the columns SHARED, then for each judgement
    OWN and the seeds judged with. Their names end in `_n3` for n = 3 where there are two."""
    columns: dict[str, list[Any]] = {name: [getattr(v, name) for v in judged[-1].verdicts] for name in SHARED}
    columns["settings"] = [" ".join(names) for names in columns["settings"]]
    for own in judged:
        end = "" if own.planned is None else f"_n{own.planned}"
        columns |= {name + end: [getattr(v, name) for v in own.verdicts] for name in OWN}
        columns["seeds" + end] = [" ".join(map(str, own.seeds))] * len(own.verdicts)
        columns["provisional" + end] = [own.lacking] * len(own.verdicts)
    return pd.DataFrame(columns)


def write(results: Results, out: Path, settings: Sequence[str] | None = None) -> tuple[tuple[Judgement, ...], str]:
    """Judges the claims and writes claims.md, .csv and .json to `out`. Where no `settings` are
    given and the results have several: claims_by_setting.md, claims_counts.md and TABLES too.

    Returns the judgements, and lines that name the files.
    """
    judged = judge(results, settings)
    written = cli.save(out, "claims", {"md": to_markdown, "csv": to_csv, "json": to_json}, judged)
    if settings is None and len(results.settings) > 1:
        alone = {name: judge(results, [name]) for name in results.settings}
        written += "\n" + cli.save(out, "claims_by_setting", {"md": by_setting}, alone)
        every = {"All settings together": judged, **{title_of(name): own for name, own in alone.items()}}
        written += "\n" + cli.save(out, "claims_counts", {"md": counts_table}, every)
        for name, table in TABLES.items():
            written += "\n" + cli.save(out, name, {"md": table}, results)
    return judged, written


def to_csv(judged: Judged) -> str:
    """`to_frame` as CSV."""
    return to_frame(judged).to_csv(index=False)


def to_json(judged: Judged) -> str:
    """Everything, with the interval and the one-sided p-values of every comparison."""
    content = {
        "scope": scope_note(judged),
        "changed": [{"id": last.id, "from": first.verdict, "to": last.verdict} for first, last in changed(judged)],
        "judged": [
            {
                "planned": own.planned,
                "seeds": own.seeds,
                "provisional": own.lacking,
                "claims": [asdict(v) for v in own.verdicts],
            }
            for own in judged
        ],
    }
    return json.dumps(content, indent=1) + "\n"


def scope_note(judged: Judged) -> str:
    """On which settings the claims were judged, and whether these are the paper's."""
    verdicts = judged[-1].verdicts
    names = ", ".join(dict.fromkeys(name for verdict in verdicts for name in verdict.settings))
    if all(verdict.on_paper_settings for verdict in verdicts):
        return f"Judged on the paper's settings: {names}."
    return f"Judged on {names}: not the paper's settings, so the verdicts say nothing about the paper's own numbers."


def counts(verdicts: Sequence[ClaimVerdict]) -> str:
    """`3 supported, 1 contradicted, 30 undecided`."""
    names = [verdict.verdict for verdict in verdicts]
    return ", ".join(f"{names.count(name)} {name}" for name in MARKS)


def outcome(judged: Judged) -> list[str]:
    """A line with the counts of each judgement; of several, one on the verdicts that differ."""
    lines = [f"{f'{own.heading}: ' if own.name else ''}{counts(own.verdicts)}." for own in judged]
    if len(judged) > 1:
        moved = [f"{last.id} ({first.verdict} to {last.verdict})" for first, last in changed(judged)]
        lines.append(f"Changed from {judged[0].name} to {judged[-1].name}: {', '.join(moved) or 'none'}.")
    return lines


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


def to_markdown(judged: Judged) -> str:
    """A table of the verdicts, then every rule."""
    heads = ["section", "claim", *(own.name or "verdict" for own in judged), "units holding", "margin", "why"]
    rows = []
    for row in by_claim(judged):
        v, words = row[-1], [own.word(each) for own, each in zip(judged, row, strict=True)]
        end = [f"{v.units_holding} of {v.units}", interval(v), v.reason, paper(v)]
        rows.append([v.section, v.statement, *words, *end])
    lines = ["# Claims", "", scope_note(judged), "", *(f"- {line}" for line in outcome(judged)), ""]
    lines += [markdown([*heads, "printed Table 1"], rows), NOTE + (LAST if len(judged) > 1 else ""), "", "## Rules", ""]
    lines += [f"- **{v.id}** ({v.section}, {v.where}): {v.rule}" for v in judged[-1].verdicts]
    return "\n".join(lines) + "\n"


def by_setting(judged: Mapping[str, Judged]) -> str:
    """A Markdown table: a line for each claim, a column for each setting and judgement, a dash
    where the claim is about other settings.

    `judged` has the judgements of each setting alone.
    """
    columns = [(name, own) for name, several in judged.items() for own in several]
    heads = []
    for name, own in columns:
        title = f"{title_of(name)}, {own.heading}" if own.name else title_of(name)
        heads.append(f"{title}: {counts([v for v in own.verdicts if v.units])}")
    rows = []
    for row in by_claim([own for _, own in columns]):
        cells = [
            f"{MARKS[v.verdict]} {own.word(v)} ({v.units_holding} of {v.units})" if v.units else "–"
            for (_, own), v in zip(columns, row, strict=True)
        ]
        rows.append([row[0].section, row[0].statement, paper(row[0]), *cells])
    return markdown(["section", "claim", "printed Table 1", *heads], rows)


def counts_table(judged: Mapping[str, Judged]) -> str:
    """A Markdown table: the counts of all settings together and of each alone, a column for each
    judgement."""
    names = [own.name or "verdicts" for own in next(iter(judged.values()))]
    rows = []
    for title, several in judged.items():
        cells = (counts([v for v in own.verdicts if v.units]) for own in several)
        notes = (f" (provisional: {own.lacking})" if own.lacking else "" for own in several)
        rows.append([title, *(cell + note for cell, note in zip(cells, notes, strict=True))])
    return markdown(["claims judged on", *names], rows)


def to_plain(judged: Judged) -> str:
    """Three lines a claim, for a terminal."""
    lines = [scope_note(judged), ""]
    for row in by_claim(judged):
        v = row[-1]
        words = (f"{own.name} {own.word(each).upper()}".strip() for own, each in zip(judged, row, strict=True))
        lines.append(f"{', '.join(words):<12} {v.section:<4} {v.statement}")
        lines.append(f"{'':<18}{v.reason}")
        lines.append(f"{'':<18}margin {interval(v)}; printed table: {paper(v)}")
    return "\n".join([*lines, "", *outcome(judged)])
