"""The state of every run of an experiment, read from its folder alone.

Starts at once, since it needs neither torch nor pandas.
"""

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from sns.common.errors import UserError, first_line
from sns.launch import manifest, slurm
from sns.record import attempts, store
from sns.record.state import STATES, RunState, state_of
from sns.train.progress import PROGRESS, clock


@dataclass(frozen=True)
class Line:
    """One run. `where`: host or Slurm task; `percent` of its updates; `left` in seconds; `stops`:
    how often it started again.
    """

    run_id: str
    state: str
    where: str = ""
    percent: float | None = None
    epoch: float | None = None
    left: float | None = None
    stops: int = 0
    note: str = ""


def experiments(results: Path) -> list[Path]:
    """The folders of the experiments in a results folder; UserError if there are none."""
    folders = [path for path in sorted((results / "runs").glob("*")) if path.is_dir()]
    if not folders:
        raise UserError(f"{results}/runs holds no experiment: nothing was launched with results={results} yet")
    return folders


def lines(folder: Path) -> list[Line]:
    """Every run of the experiment in `folder`: those of its manifest, then others on disk."""
    listed = [folder / run_id for run_id in manifest.read(folder)["runs"]]
    jobs = slurm.queued(folder)
    directories = dict.fromkeys([*listed, *store.run_directories(folder)])
    return [_line(directory, jobs.get(directory.name, "")) for directory in directories]


def _line(directory: Path, job: str) -> Line:
    state, last, progress = state_of(directory, job=job), attempts.load(directory), _progress(directory)
    step, total = progress.get("step"), progress.get("total")
    seen: dict[str, Any] = {"percent": 100 * step / total if step is not None and total else None}
    seen |= {"epoch": progress.get("epoch"), "where": f"Slurm {job}" if state.name == "queued" else ""}
    if state.name == "running":
        seen["where"] = f"{last.host} Slurm {last.job}" if last.job else f"{last.host} pid {last.pid}"
        if "seconds_left" in progress:
            seen["left"] = max(0.0, progress["seconds_left"] - (time.time() - progress["time"]))
    elif state.name == "done" and state.result is not None:
        seen |= {"percent": 100.0, "epoch": state.result.final["epoch"]}
    return Line(directory.name, state.name, stops=max(0, last.begun - 1), note=_note(state, last.begun), **seen)


def _note(state: RunState, begun: int) -> str:
    """What a reader of the page wants to know besides the state."""
    if state.name == "done" and state.result is not None:
        return state.result.outcome
    if state.name == "queued":
        return "resumes when Slurm starts it again" if begun else ""
    if state.name in ("stopped", "dead"):
        return "the next launch resumes it from its last checkpoint"
    return first_line(Exception(state.reason)) if state.reason else ""


def _progress(directory: Path) -> dict[str, Any]:
    """progress.json, {} where it cannot be read."""
    try:
        content = json.loads((directory / PROGRESS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def table(name: str, runs: Sequence[Line]) -> Table:
    """The runs as a table, in the order of STATES: running ones first, finished ones last."""
    page = Table("run", "state", "where", "epoch", "%", "left", "resumed", "note", title=name, title_justify="left")
    for line in sorted(runs, key=lambda line: STATES.index(line.state)):
        epoch, percent = (("" if value is None else f"{value:.4g}") for value in (line.epoch, line.percent))
        left, stops = "" if line.left is None else clock(line.left), str(line.stops or "")
        page.add_row(line.run_id, line.state, line.where, epoch, percent, left, stops, line.note)
    return page


def summary(runs: Sequence[Line]) -> str:
    """One line: how many runs are in which state."""
    counts = Counter(line.state for line in runs)
    return f"{len(runs)} runs: " + ", ".join(f"{counts[name]} {name}" for name in STATES if counts[name])
