"""Where a grid stands, read from its folder alone: starts at once, since it needs neither torch nor
pandas."""

import json
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from sns.common.errors import UserError, first_line
from sns.launch import manifest, slurm
from sns.record import attempts
from sns.record.attempts import Attempts
from sns.train.progress import PROGRESS, clock

ORDER = ("running", "stopped", "died", "queued", "failed", "refused", "damaged", "diverged", "done")
RESULT, CONFIG = "result.json", "config.yaml"


@dataclass(frozen=True)
class Line:
    """One run. `where`: host or Slurm task; `percent` of its updates; `left` in seconds; `stops`:
    how often it was stopped or died and went on.
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
    """The grids in a results folder; UserError if there are none."""
    folders = [path for path in sorted((results / "runs").glob("*")) if path.is_dir()]
    if not folders:
        raise UserError(f"{results}/runs holds no experiment: nothing was launched with results={results} yet")
    return folders


def lines(folder: Path) -> list[Line]:
    """Every run of the grid in `folder`, in the manifest or only on disk."""
    known = list(manifest.read(folder)["runs"])
    found = sorted(path.parent.name for name in (CONFIG, RESULT, attempts.FILE) for path in folder.glob(f"*/{name}"))
    queue = slurm.queued(folder)
    return [_line(folder / run_id, queue.get(run_id, "")) for run_id in dict.fromkeys([*known, *found])]


def _line(directory: Path, job: str) -> Line:
    state, progress = attempts.load(directory), _json(directory / PROGRESS) or {}
    stops = max(0, state.begun - 1)
    if (directory / RESULT).is_file():
        return _over(directory, stops)
    step, total = progress.get("step"), progress.get("total")
    seen: dict[str, Any] = {
        "percent": 100 * step / total if step is not None and total else None,
        "epoch": progress.get("epoch"),
    }
    if attempts.alive(directory, state):
        left = progress.get("seconds_left")
        if left is not None:
            left = max(0.0, left - (time.time() - progress["time"]))
        return Line(directory.name, "running", _where(state), left=left, stops=stops, **seen)
    if job:
        note = "goes on when Slurm starts it again" if state.begun else ""
        return Line(directory.name, "queued", f"Slurm {job}", stops=stops, note=note, **seen)
    name, note = _ended(state)
    return Line(directory.name, name, "", stops=stops, note=note, **seen)


def _over(directory: Path, stops: int) -> Line:
    result = _json(directory / RESULT)
    if result is None or "status" not in result:
        return Line(directory.name, "damaged", note=f"{RESULT} cannot be read")
    if result["status"] == "ok":
        final = result["final"]
        note = f"test accuracy {final['test_accuracy']:.4f}, gap {final['gap']:.4f}"
        return Line(directory.name, "done", percent=100.0, epoch=final["epoch"], stops=stops, note=note)
    return Line(directory.name, result["status"], stops=stops, note=_short(result["reason"]))


def _ended(state: Attempts) -> tuple[str, str]:
    """Of a run that is neither over nor running nor queued: what it waits for."""
    if state.begun == 0:
        return "queued", ""
    if state.state in ("failed", "refused"):
        return state.state, _short(state.reason)
    if state.state == "stopped":
        return "stopped", "saved; the next launch goes on"
    return "died", "the next launch goes on from its checkpoint"


def _where(state: Attempts) -> str:
    return f"{state.host} Slurm {state.job}" if state.job else f"{state.host} pid {state.pid}"


def _short(reason: str | None) -> str:
    return first_line(Exception(reason or "no reason given"))


def _json(file: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def table(name: str, found: list[Line]) -> Table:
    """The runs as a table: what moves first, what is done last."""
    made = Table("run", "state", "where", "epoch", "%", "left", "resumed", "note", title=name, title_justify="left")
    for line in sorted(found, key=lambda line: ORDER.index(line.state)):
        epoch, percent = (("" if value is None else f"{value:.4g}") for value in (line.epoch, line.percent))
        left, stops = "" if line.left is None else clock(line.left), str(line.stops or "")
        made.add_row(line.run_id, line.state, line.where, epoch, percent, left, stops, line.note)
    return made


def summary(found: list[Line]) -> str:
    """One line: how many runs are in which state."""
    counts = Counter(line.state for line in found)
    return f"{len(found)} runs: " + ", ".join(f"{counts[name]} {name}" for name in ORDER if counts[name])
