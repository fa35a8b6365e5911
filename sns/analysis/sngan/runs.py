"""The runs of an SN-GAN experiment as one table, and as the source of its questions' measures.

The head of results/sngan/claims.yaml defines the measures, and when a run broke down.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sns.analysis.bakeoff.questions import Key, Question, Spot
from sns.analysis.cells import Results, by_optimizer
from sns.analysis.claims.measures import flatness
from sns.common.errors import RecordError
from sns.record.store import Record

TASK = "gan"
ADAM = {f"adam_{letter}": letter.upper() for letter in "abcdef"}
MILD = ("adam_a", "adam_b", "adam_c")
BASE = "adam_a"  # has the discriminator updates of D to F at a tenth of their rate
BEST = "best"  # the Adam setting in which a method has its least distance
METHODS = (  # as the paper's Table 2 lists them
    *("vanilla", "weight_clipping", "gan_gp", "wgan_gp", "batch_norm", "layer_norm", "weight_norm"),
    *("orthonormal", "spectral", "spectral_normalization"),
)
SCORES = {
    "fid": "FID",
    "inception_score": "inception score",
    "classifier_frechet": "Frechet distance, classifier",
    "classifier_score": "classifier score",
    "imagenet_frechet": "Frechet distance, ImageNet features",
}
CHOICES = (  # distance and score of the rules
    ("fid", "inception_score"),
    ("classifier_frechet", "classifier_score"),
    ("imagenet_frechet", "classifier_score"),
)
BAR = 1.0  # log2 of how much farther than the reference a run that broke down is
COLUMNS = ["setting", "optimizer", "method", "seed", "batch_size", "status", "state", "data", "loss", *SCORES]
COLUMNS += ["distance", "score", "log2_frechet", "image_score", "broken_down", "loss_of_score", "flatness"]
STATES = ("ok", "far", "collapsed", "diverged")


def records(results: Results) -> list[Record]:
    """One variant of each cell and Adam setting; runs that failed of an error are left out."""
    cells = (cell for own in by_optimizer(results).values() for cell in own.cells)
    return [record for cell in cells for record in cell.records if record.result.status != "failed"]


def warnings(results: Results) -> list[str]:
    """What is left out and why: records that cannot be used, and other variants of a cell."""
    own = [text for part in by_optimizer(results).values() for text in part.warnings]
    return list(dict.fromkeys([*results.unusable, *own]))


def compute(results: Results) -> pd.DataFrame:
    """A row COLUMNS for each run, sorted by setting, Adam setting, method and seed.

    `distance` and `score` are the two of SCORES by which the rules judge (names in attrs), NaN for
    a diverged run. `state` is one of STATES; all but ok broke down. RecordError where there is no
    run of the task.
    """
    found = [record for record in records(results) if record.result.task == TASK]
    if not found:
        raise RecordError("no run of a GAN: train experiment=sngan_pocket")
    frame = pd.DataFrame([_row(record) for record in found]).reindex(columns=COLUMNS)
    frame = frame.astype(dict.fromkeys([*SCORES, *COLUMNS[-7:]], float))
    ended = frame[frame["status"] == "ok"]
    names = next((pair for pair in CHOICES if ended[pair[0]].notna().all()), CHOICES[1])
    frame["distance"], frame["score"] = (frame[name].where(frame["status"] == "ok") for name in names)
    frame["log2_frechet"] = filled(frame["distance"].map(np.log2), frame["setting"], high_is_bad=True)
    frame["image_score"] = filled(frame["score"], frame["setting"], high_is_bad=False)
    for _, part in frame.groupby("setting"):
        far = part["log2_frechet"] > reference(part) + BAR
        frame.loc[part.index, "state"] = part["state"].mask((part["state"] == "ok") & far, "far")
    frame["broken_down"] = (frame["state"] != "ok").astype(float)
    base = frame[frame["optimizer"] == BASE].set_index(["setting", "method", "seed"])["log2_frechet"]
    places = pd.MultiIndex.from_frame(frame[["setting", "method", "seed"]])
    frame["loss_of_score"] = frame["log2_frechet"] - base.reindex(places).to_numpy()
    frame = frame.sort_values(["setting", "optimizer", "method", "seed"], key=place, ignore_index=True)
    frame.attrs.update(distance=SCORES[names[0]], score=SCORES[names[1]])
    return frame


def filled(values: "pd.Series[float]", settings: "pd.Series[str]", high_is_bad: bool) -> "pd.Series[float]":
    """`values` where the runs without one take the worst of their setting."""
    groups = values.groupby(settings)
    return values.fillna(groups.transform("max") if high_is_bad else groups.transform("min"))


def _row(record: Record) -> dict[str, Any]:
    result = record.result
    row: dict[str, Any] = {name: getattr(result, name) for name in COLUMNS[:6]}
    scores = result.measured.get("scores") or {}
    row |= {name: scores.get(name) for name in SCORES} | {"flatness": flatness(record)}
    row |= {
        "data": record.config.get("data", {}).get("name", ""),
        "loss": record.config.get("task", {}).get("loss", ""),
    }
    collapsed = (result.measured.get("samples") or {}).get("collapsed")
    return row | {"state": "diverged" if result.status != "ok" else "collapsed" if collapsed else "ok"}


def place(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """A sort key: methods as in METHODS, then the others by name; other columns as they are."""
    if column.name != "method":
        return column
    names = [*METHODS, *sorted({*column} - {*METHODS})]
    return column.map(names.index)


def letters(frame: pd.DataFrame) -> dict[str, str]:
    """The Adam settings A to F, then other optimizers with runs, each with its name for readers;
    the others alone where none of A to F has a run."""
    present = set(frame["optimizer"])
    return {**(ADAM if present & {*ADAM} else {}), **{name: name for name in sorted(present - {*ADAM})}}


def reference(part: pd.DataFrame) -> float:
    """log2 of the distance that a method typically reaches in its best setting of A to C: the
    median over the methods of one setting's runs `part`, NaN without such a run."""
    mild = part[part["optimizer"].isin(MILD)]
    return float(mild.groupby(["method", "optimizer"])["log2_frechet"].mean().groupby("method").min().median())


def best(frame: pd.DataFrame) -> dict[tuple[str, str], str]:
    """By setting and method the Adam setting with the least mean log2_frechet over seeds; the
    first of equal ones, or of settings without a distance."""
    means = frame.groupby(["setting", "method", "optimizer"])["log2_frechet"].mean().reset_index()
    rows = means.sort_values("log2_frechet", kind="stable").drop_duplicates(["setting", "method"])
    return {(row["setting"], row["method"]): row["optimizer"] for row in rows.sort_index().to_dict("records")}


def at_best(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of each method in its best Adam setting."""
    chosen = best(frame)
    keys = zip(frame["setting"], frame["method"], frame["optimizer"], strict=True)
    return frame[[chosen.get((setting, method)) == optimizer for setting, method, optimizer in keys]]


class Runs:
    """The measures of the runs of `compute`, for the questions: a `Source`."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.frame = pd.concat([frame, at_best(frame).assign(optimizer=BEST)])
        self.settings = list(dict.fromkeys(frame["setting"]))

    def asked(self, question: Question) -> list[Spot]:
        """Each setting in each Adam setting of the question, run or not."""
        return [(setting, optimizer) for setting in self.settings for optimizer in question.under]

    def _rows(self, own: str | None, name: str) -> pd.DataFrame:
        return self.frame[self.frame["method"] == (own if name == "value" else name)]

    def values(self, measure: str, own: str | None, name: str) -> dict[Key, float]:
        """The measure by setting, Adam setting and seed, of the runs that have it."""
        rows = self._rows(own, name).dropna(subset=[measure])
        keys = zip(rows["setting"], rows["optimizer"], rows["seed"], strict=True)
        return dict(zip(keys, rows[measure].astype(float), strict=True))

    def missing(self, measure: str, name: str, own: str | None, needed: int, spots: Sequence[Spot]) -> Iterator[str]:
        """A phrase for each of `spots` in which `name` has fewer than `needed` seeds."""
        rows, method = self._rows(own, name), own if name == "value" else name
        for setting, optimizer in spots:
            part = rows[(rows["setting"] == setting) & (rows["optimizer"] == optimizer)]
            count = int(part[measure].notna().sum())
            if count < needed:
                why = f"{count} of {needed} seeds" if len(part) else "not run"
                lost = f", {len(part) - count} without {measure}" if len(part) > count else ""
                yield f"{setting}, {method}, {optimizer}: {why}{lost}"
