"""The end of a run: the final measurements and the record."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import yaml

from sns import __version__
from sns.common.errors import RecordError, first_line
from sns.common.files import write_text
from sns.common.memory import runs_together
from sns.config.schema import Config, to_dict
from sns.optim.schedule import learning_rate_sum
from sns.record import store
from sns.record.environment import describe, peak_memory
from sns.record.lock import RunLock
from sns.record.schema import CONFIG, HISTORY_CSV, SCHEMA_VERSION, Result, Score
from sns.task import TASKS, columns_of
from sns.task.running import NEVER
from sns.train import checkpoint
from sns.train.session import Session
from sns.train.stop import StopSignal

MEASURED_FILE = "measured.json"  # the final measurements made so far; removed at the end


def divergence(session: Session, row: dict[str, float]) -> str | None:
    """Why the run has diverged, in one sentence; None if every number is finite."""
    bad = int(session.task.running.bad_step.item())
    if bad != NEVER:
        return f"the training loss stopped being finite at update {bad} of {session.total}"
    for name, value in row.items():
        if not math.isfinite(value):
            return f"{name} is not finite after update {session.step} of {session.total}"
    return None


def finish(session: Session, reason: str | None, command: str, stop: StopSignal) -> Result:
    """Makes the final measurements, writes the tables and, last, result.json.

    `reason` says why a run diverged. Raises Interrupted if the run is asked to stop during a
    measurement; those completed by then are saved.
    """
    pieces = SavedPieces(session.directory, session.step)
    # With several processes the others wait for this one, so that it must not be interrupted.
    with session.timed("measure"), stop.interrupting() if session.ranks.world == 1 else nullcontext():
        measured = session.task.final(pieces) if reason is None else {}
    store.write_rows(session.directory / HISTORY_CSV, session.columns, session.history)
    result = _result(session, reason, command, measured)
    store.write_result(session.directory, result)
    checkpoint.tidy(session.directory, session.config.train.keep_checkpoint)
    pieces.forget()
    return result


def write_failed(config: Config, reason: str, command: str = "") -> Result:
    """Writes a record with status failed and the first line of `reason`, for a run not to retry.

    History and checkpoint stay: the run resumes from them if result.json is deleted. The record of
    a finished run is returned unchanged. UserError if a live process holds the run.
    """
    directory = config.directory
    directory.mkdir(parents=True, exist_ok=True)
    with RunLock(directory):
        if store.is_finished(directory):
            return store.read(directory).result
        if not (directory / CONFIG).is_file():
            write_text(directory / CONFIG, yaml.safe_dump(to_dict(config), sort_keys=False))
        result = _failed(config, reason, command)
        if not (directory / HISTORY_CSV).is_file():
            store.write_rows(directory / HISTORY_CSV, result.columns, [])
        store.write_result(directory, result)
    return result


def _failed(config: Config, reason: str, command: str) -> Result:
    try:
        rows = store.read_history(config.directory)
    except RecordError:
        rows = []
    last = rows[-1] if rows else {}
    return Result(
        **_identity(config),
        status="failed",
        reason=first_line(Exception(reason)),
        steps=int(last.get("step", 0)),
        **_rows(rows, TASKS[config.task.name].own_score(config)),
        dose={"learning_rate_sum": None, "e_folds": None, "factor": None},
        measured={},
        timings={name: float(last.get(name, 0.0)) for name in ("train_seconds", "measure_seconds")},
        memory={"peak_bytes": None, "peak_host_bytes": None},
        environment=describe(torch.device("cpu")) | {"sns": __version__, "device": None, "device_type": None},
        command=command,
    )


class SavedPieces:
    """The final measurements of the weights after update `step`, each made once.

    Those of an earlier session are read from a file. Floats keep every digit.
    """

    def __init__(self, directory: Path, step: int, saved: bool = True) -> None:
        """Unless `saved`, everything is measured again and nothing is saved."""
        self.directory = directory
        self.file = directory / MEASURED_FILE if saved else None
        self.done: dict[str, Any] = {"step": step}
        try:
            earlier = json.loads(self.file.read_text(encoding="utf-8")) if self.file is not None else {}
        except (OSError, ValueError):  # missing or damaged: the measurements are made again
            return
        if isinstance(earlier, dict) and earlier.get("step") == step:
            self.done = earlier

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` returns, or did in an earlier session: numbers and containers of them."""
        if name not in self.done:
            self.done[name] = make()
            if self.file is not None:
                write_text(self.file, json.dumps(self.done))
        return self.done[name]

    def table(self, file: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes a CSV file to the run directory."""
        store.write_rows(self.directory / file, columns, rows)

    def path(self, file: str) -> Path:
        """Where a file of the run directory is."""
        return self.directory / file

    def forget(self) -> None:
        """Removes the file: the run is finished."""
        if self.file is not None:
            self.file.unlink(missing_ok=True)


def _result(session: Session, reason: str | None, command: str, measured: dict[str, Any]) -> Result:
    config, history, seconds, task = session.config, session.history, session.seconds, session.task
    environment = describe(session.device) | {
        "sns": __version__,
        "precision": config.train.precision,
        "mode": session.mode,
        "memory_format": str(session.memory_format).removeprefix("torch."),
        **task.facts(),
        **({"runs_together": runs_together()} if runs_together() > 1 else {}),
    }
    return Result(
        **_identity(config),
        status="ok" if reason is None else "diverged",
        reason=reason,
        steps=session.step,
        **_rows(history, task.own_score(config)),
        dose=_dose(session),
        measured=task.summary(history) | measured,
        timings={
            "train_seconds": seconds["train"],
            "measure_seconds": seconds["measure"],
            "setup_seconds": seconds["setup"],
            "images_per_second": session.step * config.batch.size / max(seconds["train"], 1e-9),
            "sessions": session.sessions,
        },
        memory=peak_memory(session.device) | {"pass_images": float(task.sizes.train)},
        environment=environment,
        command=command,
    )


def _identity(config: Config) -> dict[str, Any]:
    """The fields of a record that follow from the configuration alone."""
    score = TASKS[config.task.name].own_score(config)
    return {
        "schema": SCHEMA_VERSION,
        "run_id": config.run_id,
        "experiment": config.experiment.name,
        "task": config.task.name,
        "setting": config.setting,
        "method": config.method.name,
        "optimizer": config.optim.name,
        "regime": config.batch.regime,
        "batch_size": config.batch.size,
        "seed": config.seed,
        "variant": config.variant,
        "epochs": config.train.epochs,
        "columns": columns_of(config),
        "score": score.column,
        "high_is_good": score.high,
    }


def _rows(history: Sequence[dict[str, float]], score: Score) -> dict[str, Any]:
    """The last row of the history, and the row with the best score."""
    if not history:
        return {"final": {}, "best": {}}
    best = (max if score.high else min)(history, key=lambda row: row[score.column])
    return {"final": dict(history[-1]), "best": dict(best)}


def _dose(session: Session) -> dict[str, float | None]:
    """The sum of learning rates, lambda, and the dose of the penalty, see `OptimOptions.dose`."""
    optim, factor = session.task.optimizers[0].options, session.task.factor
    total = learning_rate_sum(session.step, session.total, optim)
    folds = None if factor is None else optim.dose(factor, total)
    return {"learning_rate_sum": total, "e_folds": folds, "factor": factor}
