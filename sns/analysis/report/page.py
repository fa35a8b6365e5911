"""The report: one self-contained HTML page computed from the records of a results folder."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jinja2
from plotly.offline import get_plotlyjs

from sns.analysis.cells import PAPER, PAPER_SETTINGS, Results
from sns.analysis.claims import text as claims_text
from sns.analysis.claims.seeds import Judgement, by_claim, judge
from sns.analysis.figures import traces
from sns.analysis.report import bound as report_bound
from sns.analysis.report import data as report_data
from sns.analysis.report import figures as report_figures
from sns.analysis.report.comparison import comparison
from sns.analysis.report.finding import finding
from sns.analysis.table1 import table as table1
from sns.common.files import read_yaml, write_text

Figures = dict[str, dict[str, Any]]


def build(results: Results, title: str, figures: Figures | None = None) -> str:
    """The page as HTML. `title` names the experiment; whatever comes from records is escaped.
    `figures` are those of `report_figures.build`, which None computes.

    UserError where there is no finished run.
    """
    judged = judge(results)
    cells, environments = report_data.cells(results)
    table = report_data.table(table1.compute(results))
    figures = dict(report_figures.build(results) if figures is None else figures)
    in_script = {
        "cells": cells,
        "figures": {figure["id"]: figure["panels"] for figure in figures.values()},
        "environments": environments,
        "dark": traces.DARK,
    }
    return (
        templates()
        .get_template("report.html.j2")
        .render(
            title=title,
            ours=not any(name in PAPER_SETTINGS for name in results.settings),
            finding=finding(results),
            comparison=comparison(results),
            table=table,
            summary=figures.pop("summary"),  # on top of the page
            figures=list(figures.values()),
            methods={name: traces.look(name, results.methods) for name in results.methods},
            claims=_claims(judged),
            claims_scope=" ".join([claims_text.scope_note(judged), *claims_text.outcome(judged)]),
            bound=report_bound.bound(results),
            departures=read_yaml(PAPER / "departures.yaml"),
            environments=environments,
            missing=report_data.missing(results, _expected(results)),
            warnings=results.warnings,
            data=as_json(in_script),
            plotly=get_plotlyjs(),
        )
    )


def _claims(judged: Sequence[Judgement]) -> list[dict[str, Any]]:
    """Each claim with its verdicts, one for each judgement."""
    claims = []
    for row in by_claim(judged):
        verdicts = [
            {**asdict(v), "name": own.name, "word": own.word(v), "interval": claims_text.interval(v)}
            for own, v in zip(judged, row, strict=True)
        ]
        claims.append({**verdicts[-1], "printed": claims_text.paper(row[-1]), "verdicts": verdicts})
    return claims


def write(results: Results, title: str, path: Path, figures: Figures | None = None) -> int:
    """Writes the page of `build` to `path` atomically and returns its size in bytes."""
    page = build(results, title, figures)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, page)
    return len(page.encode())


def templates() -> jinja2.Environment:
    """The templates of this package."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    return jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def as_json(value: Any) -> str:
    """JSON that may stand inside a script element: no markup can begin in it, and what is not
    finite is null."""
    try:
        text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    except ValueError:
        finite = json.loads(json.dumps(value), parse_constant=lambda _: None)
        text = json.dumps(finite, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _expected(results: Results) -> list[str]:
    """The settings a reader would look for: those with records, and the paper's where one of these
    has records."""
    ours = list(results.settings)
    return [*PAPER_SETTINGS, *(s for s in ours if s not in PAPER_SETTINGS)] if set(ours) & set(PAPER_SETTINGS) else ours
