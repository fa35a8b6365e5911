"""The choice of strengths and learning rates from the records of the tuning experiments.

The rule stands in the head of results/bakeoff/claims.yaml: the highest test accuracy at the last
evaluation, where the "test" images are held-out training images; of equal ones the weaker. The
candidates stand in configs/experiment/<tuning>.yaml, each list from weak to strong.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from sns.analysis.cells import load_results
from sns.analysis.claims.tables import markdown
from sns.common.errors import RecordError
from sns.common.files import write_text
from sns.common.folders import project_folder
from sns.record.store import Record

EXPERIMENTS = project_folder("configs/experiment")
FILE = "tuning.csv"
COLUMNS = ["setting", "optimizer", "regime", "method", "option", "candidate", "status", "test_accuracy", "chosen"]
Strengths = Mapping[str, str]  # method: the option that is its strength, "" where it has none
Tree = dict[str, Any]


@dataclass(frozen=True)
class Tuning:
    """A tuning experiment, and where its choice is written."""

    name: str
    into: str  # the experiment whose YAML file receives the choice
    key: str  # strengths | rates
    levels: tuple[str, ...]  # of the table of candidates, and of the choice

    @property
    def held(self) -> bool:
        """Whether its runs train at the chosen learning rates."""
        return self.key == "strengths" and "optimizer" in self.levels


TUNINGS = (
    Tuning("bakeoff_tuning", "bakeoff", "strengths", ("setting", "regime", "method")),
    Tuning("bakeoff_rates", "bakeoff_optim", "rates", ("optimizer", "regime")),
    Tuning("bakeoff_optim_tuning", "bakeoff_optim", "strengths", ("optimizer", "regime", "method")),
)


def read(experiment: str, configs: Path = EXPERIMENTS) -> Tree:
    """The YAML file of an experiment, interpolations not resolved."""
    tree: Tree = yaml.load((configs / f"{experiment}.yaml").read_text(encoding="utf-8"), Loader=Numbers)
    return tree


class Numbers(yaml.SafeLoader):
    """YAML with `1e-3` as a number, as Hydra reads it."""


Numbers.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+"), list("-+0123456789")
)


def leaves(tree: Tree, depth: int) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Path and value of everything `depth` levels down."""
    if depth == 0:
        yield (), tree
        return
    for name, inside in tree.items():
        yield from (((str(name), *path), value) for path, value in leaves(inside, depth - 1))


def compute(folder: Path, tuning: Tuning, options: Strengths, configs: Path = EXPERIMENTS) -> pd.DataFrame:
    """A row COLUMNS for each candidate, in the order of the table; `chosen` marks the choice.

    `folder` is a results folder. `status` is that of the run, or "not run". A diverged run is never
    chosen. `chosen` is False throughout where a candidate of the list was not run. RecordError
    where several runs have one candidate's values.
    """
    rates = dict(leaves(read(tuning.into, configs)["rates"], 2)) if tuning.held else {}
    records: dict[tuple[tuple[str, ...], float], list[Record]] = {}
    for record in load_results(folder / "runs" / tuning.name).records:
        result, config = record.result, record.config
        if tuning.held and config["optim"]["lr"] != rates.get((result.optimizer, result.regime)):
            continue  # of an earlier choice of rates
        tuned = config["optim"]["lr"] if tuning.key == "rates" else config["method"].get(options.get(result.method))
        if tuned is not None:
            path = tuple(getattr(result, level) for level in tuning.levels)
            records.setdefault((path, float(tuned)), []).append(record)
    rows = []
    for path, candidates in leaves(read(tuning.name, configs)["candidates"], len(tuning.levels)):
        rows += _rows(tuning, path, [(value, records.get((path, float(value)), [])) for value in candidates], options)
    return pd.DataFrame(rows, columns=COLUMNS)


def _rows(
    tuning: Tuning, path: tuple[str, ...], runs: list[tuple[float, list[Record]]], options: Strengths
) -> list[Tree]:
    """The rows of one list of candidates."""
    place = dict(zip(tuning.levels, path, strict=True))
    option = "lr" if tuning.key == "rates" else options.get(place["method"], "")
    rows: list[Tree] = []
    for value, found in runs:
        if len(found) > 1:
            names = ", ".join(record.path.name for record in found)
            raise RecordError(f"{tuning.name} has several runs of {' '.join(path)} {option}={value:g}: {names}")
        status = found[0].result.status if found else "not run"
        accuracy = found[0].result.final["test_accuracy"] if status == "ok" else None
        row = dict.fromkeys(COLUMNS, "") | place | {"option": option, "candidate": float(value), "status": status}
        rows.append(row | {"test_accuracy": accuracy, "chosen": False})
    if all(row["status"] in ("ok", "diverged") for row in rows):
        trained = [row for row in rows if row["status"] == "ok"]
        if trained:
            max(trained, key=lambda row: row["test_accuracy"])["chosen"] = True  # the first of equal ones
    return rows


def untried(frame: pd.DataFrame, tuning: Tuning) -> list[str]:
    """The places, such as `nin_pocket large`, of which no candidate of any method was run: their
    strengths stay unchosen."""
    places = frame.groupby(list(tuning.levels[:-1]), sort=False)["status"]
    return [" ".join(map(str, path)) for path, status in places if (status == "not run").all()]


def missing(frame: pd.DataFrame, tuning: Tuning) -> list[str]:
    """A sentence for each list of candidates from which nothing could be chosen, but for `untried`
    places."""
    sentences, out = [], untried(frame, tuning)
    for path, part in frame.groupby(list(tuning.levels), sort=False):
        if " ".join(map(str, path[:-1])) not in out and not part["chosen"].any():
            rows = part.to_dict("records")
            absent = [f"{row['candidate']:g} ({row['status']})" for row in rows if row["status"] != "ok"]
            sentences.append(f"{' '.join(map(str, path))}: {', '.join(absent)}")
    return sentences


def chosen(frame: pd.DataFrame, tuning: Tuning) -> Tree:
    """The choice as the nested mapping that `block` writes."""
    tree: Tree = {}
    for row in frame[frame["chosen"]].to_dict("records"):
        inside = tree
        for level in tuning.levels[:-1]:
            inside = inside.setdefault(row[level], {})
        inside[row[tuning.levels[-1]]] = row["candidate"]
    return tree


def _block(key: str) -> re.Pattern[str]:
    return re.compile(rf"^# begin {key}:.*?^# end {key}$", re.DOTALL | re.MULTILINE)


def write(tree: Tree, tuning: Tuning, configs: Path = EXPERIMENTS) -> Path:
    """Writes the choice into the block of its experiment's YAML file, and returns the file."""
    path = configs / f"{tuning.into}.yaml"
    values = yaml.safe_dump({tuning.key: tree}, sort_keys=False, default_flow_style=False)
    head = f"# begin {tuning.key}: written by scripts/bakeoff.py choose"
    content, count = _block(tuning.key).subn(
        lambda _: f"{head}, from {tuning.name}\n{values}# end {tuning.key}", path.read_text(encoding="utf-8")
    )
    if count != 1:
        raise RecordError(f"{path} has no place for the {tuning.key}: the lines `# begin {tuning.key}:` to `# end`")
    write_text(path, content)
    return path


def to_csv(frame: pd.DataFrame) -> str:
    """The candidates as CSV, numbers with every digit."""
    return frame.to_csv(index=False)


def to_markdown(frame: pd.DataFrame) -> str:
    """A line for each list of candidates that has runs: held-out accuracy in percent of each, the
    choice bold."""
    keys = ["setting", "optimizer", "regime", "method", "option"]
    shown = [key for key in keys if (frame[key] != "").any()]
    lines = []
    for path, part in frame.groupby(keys, sort=False):
        if (part["status"] == "not run").all():
            continue
        cells = []
        for row in part.to_dict("records"):
            number = row["status"] if row["status"] != "ok" else f"{100 * row['test_accuracy']:.1f}"
            text = f"{row['candidate']:g}: {number}"
            cells.append(f"**{text}**" if row["chosen"] else text)
        lines.append([*(str(own) for key, own in zip(keys, path, strict=True) if key in shown), ", ".join(cells)])
    return markdown([*shown, "candidate: accuracy on held-out training images, %"], lines)


FORMATS = {"md": to_markdown, "csv": to_csv}


def faults(folder: Path, options: Strengths, configs: Path = EXPERIMENTS) -> Iterator[str]:
    """A sentence for each choice in the experiments' YAML files, and for each page of candidates in
    `folder`, that does not follow from the tuning records in `folder`."""
    for tuning in TUNINGS:
        pages = folder / tuning.name
        if not (pages / FILE).is_file():
            continue  # nothing was chosen from these records
        frame = compute(folder, tuning, options, configs)
        command = f"python scripts/bakeoff.py choose {folder} --experiment {tuning.name}"
        again = f"renew it with {command}"
        for suffix, text in FORMATS.items():
            page = pages / f"tuning.{suffix}"
            if not page.is_file() or page.read_text(encoding="utf-8") != text(frame):
                yield f"{page} differs from what its records give now: {again}"
        yield from (f"{tuning.name} lacks {sentence}" for sentence in missing(frame, tuning))
        if read(tuning.into, configs)[tuning.key] != chosen(frame, tuning):
            yield f"the {tuning.key} of experiment={tuning.into} do not follow from {pages / FILE}: {again}"
