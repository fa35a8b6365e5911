"""The end of a run: the measurements made once, and the record."""

import dataclasses
import json
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml

from sns import __version__
from sns.common.errors import RecordError, first_line
from sns.common.files import write_text
from sns.config.schema import Config, to_dict
from sns.measure.evaluation import gradient_norms, probe_indices, quantiles
from sns.measure.hessian import hessian_split
from sns.measure.lipschitz import lipschitz_summary
from sns.measure.spectrum import layer_table, spectra_table
from sns.record import store
from sns.record.environment import describe, peak_memory
from sns.record.gap import gap_at_alpha
from sns.record.lock import RunLock
from sns.record.schema import HISTORY, LAYERS, SCHEMA_VERSION, SPECTRA, Result
from sns.train import checkpoint
from sns.train.schedule import learning_rate_sum
from sns.train.session import Session
from sns.train.stop import StopSignal

MEASURED_FILE = "measured.json"  # the last measurements while they are under way; goes when the run is over


def finish(session: Session, reason: str | None, command: str, stop: StopSignal) -> Result:
    """Measures what is measured at the end, writes the tables and, last, result.json. `reason` says
    why a run diverged. Asked to stop while it measures it raises Interrupted; what was measured by
    then is kept.
    """
    began = time.perf_counter()
    kept = Pieces(session.directory / MEASURED_FILE, session.step)
    with stop.at_once() if session.ranks.world == 1 else nullcontext():  # the other processes wait for this one
        measured = final_measurements(session, kept) if reason is None else dict(NOTHING)
    session.seconds["measure"] += time.perf_counter() - began
    store.write_rows(session.directory / store.HISTORY_CSV, HISTORY, session.history)
    result = _result(session, reason, command, measured)
    store.write_result(session.directory, result)
    checkpoint.tidy(session.directory, session.config.train.keep_checkpoint)
    kept.forget()
    return result


def write_failed(config: Config, reason: str, command: str = "") -> Result:
    """Leaves a record with status failed and the first line of `reason`, for a run that is not to
    be tried again.

    What the run measured before stays, and so does its checkpoint: without result.json it goes on.
    A run that is over keeps its record, which is returned; UserError if a live process holds the
    run.
    """
    directory = config.directory
    directory.mkdir(parents=True, exist_ok=True)
    with RunLock(directory):
        if store.is_finished(directory):
            return store.read(directory).result
        if not (directory / store.CONFIG).is_file():
            write_text(directory / store.CONFIG, yaml.safe_dump(to_dict(config), sort_keys=False))
        result = _failed(config, reason, command)
        if not (directory / store.HISTORY_CSV).is_file():
            store.write_rows(directory / store.HISTORY_CSV, HISTORY, [])
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
        **_outcome(rows, config.alpha),
        dose={"learning_rate_sum": None, "e_folds": None},
        **NOTHING,
        timings={name: float(last.get(name, 0.0)) for name in ("train_seconds", "measure_seconds")},
        memory={"peak_bytes": None, "peak_host_bytes": None},
        environment=describe(torch.device("cpu")) | {"sns": __version__, "device": None, "device_type": None},
        command=command,
    )


MEASURED = ("hessian", "gradient_quantiles", "lipschitz")
NOTHING: dict[str, Any] = dict.fromkeys(MEASURED)


class Pieces:
    """The last measurements, each made once: what an earlier session measured of the weights after
    update `step` is read from `file`. Floats keep every digit. Without a file nothing is kept.
    """

    def __init__(self, file: Path | None = None, step: int = 0) -> None:
        self.file = file
        self.done: dict[str, Any] = {"step": step}
        try:
            found = json.loads(file.read_text(encoding="utf-8")) if file is not None else {}
        except (OSError, ValueError):  # nothing rests on it: the measurements are made again
            return
        if isinstance(found, dict) and found.get("step") == step:
            self.done = found

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` gives, or gave in an earlier session; plain numbers and containers of
        them."""
        if name not in self.done:
            self.done[name] = make()
            if self.file is not None:
                write_text(self.file, json.dumps(self.done))
        return self.done[name]

    def forget(self) -> None:
        """The run is over."""
        if self.file is not None:
            self.file.unlink(missing_ok=True)


def final_measurements(session: Session, kept: Pieces | None = None) -> dict[str, Any]:
    """Gradient-norm quantiles, Hessian eigenvalues and spectra of the present weights; writes
    layers.csv and spectra.csv. `kept`: the pieces of an earlier session that was stopped in the
    midst of it.
    """
    kept = kept or Pieces()
    images, net, size = session.dataset, session.model, session.measure_size
    config = dataclasses.replace(session.config.measure, batch_size=size)
    splits = {"train": images.train, "test": images.test}
    counts = {"train": config.gradient_samples, "test": config.test_gradient_samples or len(images.test)}

    def norms(name: str) -> dict[str, float]:
        split, probe = splits[name], probe_indices(len(splits[name]), counts[name], session.device)
        return quantiles(gradient_norms(net, split.x[probe], split.y[probe], size))

    def spectra() -> dict[str, Any]:
        layers = layer_table(net, tuple(images.train.x.shape[1:]))
        store.write_rows(session.directory / store.LAYERS_CSV, LAYERS, layers)
        store.write_rows(session.directory / store.SPECTRA_CSV, SPECTRA, spectra_table(net))
        chosen = probe_indices(len(images.test), config.jacobian_samples, session.device)
        return lipschitz_summary(net, images.test.x[chosen], size, layers)

    measured: dict[str, Any] = dict(NOTHING)
    measured["gradient_quantiles"] = {name: kept.once(f"norms {name}", partial(norms, name)) for name in splits}
    if config.spectra:
        measured["lipschitz"] = kept.once("spectra", spectra)
    if config.hessian:
        measured["hessian"] = {
            name: kept.once(f"hessian {name}", partial(hessian_split, net, split.x, split.y, config))
            for name, split in splits.items()
        }
    return measured


def _result(session: Session, reason: str | None, command: str, measured: dict[str, Any]) -> Result:
    config, history, seconds = session.config, session.history, session.seconds
    environment = describe(session.device) | {
        "sns": __version__,
        "precision": config.train.precision,
        "mode": session.mode,
        "memory_format": str(session.memory_format).removeprefix("torch."),
        "data": {
            "name": session.dataset.name,
            "fingerprint": session.dataset.fingerprint,
            "note": session.dataset.note,
        },
    }
    return Result(
        **_identity(config),
        status="ok" if reason is None else "diverged",
        reason=reason,
        steps=session.step,
        **_outcome(history, config.alpha),
        dose=_dose(session),
        **measured,
        timings={
            "train_seconds": seconds["train"],
            "measure_seconds": seconds["measure"],
            "setup_seconds": seconds["setup"],
            "images_per_second": session.step * config.batch.size / max(seconds["train"], 1e-9),
            "sessions": session.sessions,
        },
        memory=peak_memory(session.device) | {"pass_images": float(session.pass_size)},
        environment=environment,
        command=command,
    )


def _identity(config: Config) -> dict[str, Any]:
    """The fields of a record that the configuration alone decides."""
    return {
        "schema": SCHEMA_VERSION,
        "run_id": config.run_id,
        "experiment": config.experiment.name,
        "setting": config.setting,
        "method": config.method.name,
        "regime": config.batch.regime,
        "batch_size": config.batch.size,
        "seed": config.seed,
        "variant": config.variant,
        "epochs": config.train.epochs,
        "alpha": config.alpha,
    }


def _outcome(history: list[dict[str, float]], alpha: float | None) -> dict[str, Any]:
    """The fields of a record that follow from the history."""
    at_alpha = gap_at_alpha(history, alpha)
    return {
        "final": dict(history[-1]) if history else {},
        "best": dict(max(history, key=lambda row: row["test_accuracy"])) if history else {},
        "gap_at_alpha": None if at_alpha is None else at_alpha[0],
        "gap_at_alpha_epoch": None if at_alpha is None else at_alpha[1],
    }


def _dose(session: Session) -> dict[str, float | None]:
    """How many e-folds the penalty alone would shrink what it penalises, were the loss flat: lambda
    * sum of rates / (1 - m).
    """
    optim = session.config.optim
    total = learning_rate_sum(session.step, session.total, optim)
    factor = session.method.factor
    return {"learning_rate_sum": total, "e_folds": None if factor is None else factor * total / (1 - optim.momentum)}
