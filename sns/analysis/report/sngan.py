"""The page of an SN-GAN experiment: table and answers, figures, samples."""

import base64
import json
from pathlib import Path
from typing import Any

import pandas as pd
from plotly.offline import get_plotlyjs

from sns.analysis.cells import Results, methods_of, title_of
from sns.analysis.figures import traces
from sns.analysis.report import figures as report_figures
from sns.analysis.report.comparison import texts
from sns.analysis.report.page import as_json, templates
from sns.analysis.sngan import runs, table, text
from sns.common.files import write_text

FIGURES = ("sngan_scores", "sngan_spectra")
SAMPLES = "samples.png"
LEAD = (
    "Methods on the discriminator under the paper's Adam settings A to F (arXiv 1802.05957). Only full-size settings "
    "with FID compare with the paper's numbers."
)


def build(results: Results, title: str) -> str:
    """The page as HTML; `title` names the experiment. RecordError where no run is of a GAN."""
    frame = runs.compute(results)
    answered = text.answer_all(results)
    found = table.compute(frame, text.measured_costs(results))
    tables, notes = {}, [*([text.NOTE] if answered else []), table.note(frame.attrs["distance"])]
    for setting in dict.fromkeys(frame["setting"]):
        tables[title_of(setting)] = table.texts(found[found["setting"] == setting])
        tables[f"{title_of(setting)}: {frame.attrs['distance']} by Adam setting"] = table.by_adam(frame, setting)
    figures = report_figures.build(results, FIGURES)
    used = {json.dumps(record.result.environment, indent=1, sort_keys=True) for record in runs.records(results)}
    lost = frame[frame["state"] != "ok"]
    in_script = {"cells": {}, "figures": {figure["id"]: figure["panels"] for figure in figures.values()}}
    return (
        templates()
        .get_template("sngan.html.j2")
        .render(
            title=title,
            comparison={
                "title": "Table and answers",
                "lead": LEAD,
                "questions": texts(answered),
                "tables": tables,
                "notes": notes,
            },
            figures=list(figures.values()),
            methods={name: traces.look(name, methods_of(frame)) for name in methods_of(frame)},
            samples=samples(results, frame),
            environments=sorted(used),
            lost=[_sentence(row) for row in lost.to_dict("records")],
            warnings=runs.warnings(results),
            data=as_json({**in_script, "environments": sorted(used), "dark": traces.DARK}),
            plotly=get_plotlyjs(),
        )
    )


def _sentence(row: dict[Any, Any]) -> str:
    words = {"far": "ended far from the real images", "collapsed": "collapsed", "diverged": "diverged"}
    name = runs.ADAM.get(row["optimizer"], row["optimizer"])
    return f"{title_of(row['setting'])}, {row['method']}, {name}, seed {row['seed']}: {words[row['state']]}."


def samples(results: Results, frame: pd.DataFrame) -> list[dict[str, str]]:
    """Title and image of generated samples: of each method the first seed with a file in its best
    Adam setting, and in the one with the greatest mean distance."""
    files: dict[tuple[Any, Any, Any], tuple[int, Path]] = {}
    for record in runs.records(results):
        key = record.result.setting, record.result.method, record.result.optimizer
        if (record.path / SAMPLES).is_file():
            files.setdefault(key, (record.result.seed, record.path / SAMPLES))
    found = []
    for (setting, method), part in frame.groupby(["setting", "method"], sort=False):
        means = part.groupby("optimizer")["log2_frechet"].mean().sort_values(kind="stable")
        for word, optimizer in list(zip(("best", "worst"), means.index[[0, -1]], strict=True))[: len(means)]:
            if (own := files.get((setting, method, optimizer))) is not None:
                name = runs.ADAM.get(str(optimizer), str(optimizer))
                image = base64.b64encode(own[1].read_bytes()).decode()
                words = f"{method}, {name} ({word}), seed {own[0]}"
                found.append(
                    {"setting": title_of(str(setting)), "title": words, "image": f"data:image/png;base64,{image}"}
                )
    return found


def write(results: Results, title: str, path: Path) -> int:
    """Writes the page of `build` to `path` atomically and returns its size in bytes."""
    page = build(results, title)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, page)
    return len(page.encode())
