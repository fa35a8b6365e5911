"""Complete run directories with chosen numbers, for tests of code that reads records.

By default a run of the paper's cells ends at the accuracy and gap of the paper's tables. Its gap is
the same at every evaluation: final gap = gap at alpha = `gap`. `realistic=True` draws rising
curves with noise instead. The last row has the requested numbers in both cases.
"""

import hashlib
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from synthetic_fields import ENVIRONMENT, MEMORY, TIMINGS, measured_at_end

from sns.analysis.cells import METHODS, PAPER_SETTINGS, REGIMES, paper_table
from sns.config.schema import BatchConfig, Config, DataConfig, ExperimentConfig, TrainConfig, to_dict
from sns.optim.nesterov import NesterovOptions
from sns.record.gap import gap_at_alpha
from sns.record.schema import (
    AFTER,
    BEFORE,
    CLASSIFICATION,
    LAYERS,
    MEASURED,
    RECALIBRATED,
    SCHEMA_VERSION,
    SPECTRA,
    Result,
)
from sns.record.store import write_result
from sns.task.classification import ClassificationOptions

HISTORY = [column.name for column in (*BEFORE, *CLASSIFICATION, RECALIBRATED, *AFTER)]
DATA = {setting: setting.split("_")[1] for setting in PAPER_SETTINGS}
SLOW = ("vgg_cifar10", "densenet22_stl10")  # trained at a tenth of the others' learning rates
SHAPES = (("conv", 16, 27), ("conv", 32, 144), ("conv", 32, 288), ("conv", 64, 288), ("linear", 10, 64))


@dataclass
class Named:
    """A stand-in for the options of a model or a method."""

    name: str


@cache
def _paper() -> dict[tuple[str, str, str], tuple[float, float, float]]:
    return {
        (row.setting, row.method, row.regime): (row.test_accuracy, row.alpha, row.generalization_gap)
        for row in paper_table().itertuples()
    }


def config_for(folder: Path, place: tuple[str, str, str], seed: int, epochs: float, batch_size: int) -> Config:
    """The configuration of such a run, with its real run_id and variant."""
    setting, method, regime = place
    rate = 0.1 if setting in SLOW else 1.0
    return Config(
        setting=setting,
        experiment=ExperimentConfig(name=folder.name),
        results=str(folder.parent.parent),
        seed=seed,
        task=ClassificationOptions(alpha=_paper().get(place, (0, 0.8, 0))[1]),
        data=DataConfig(name=DATA.get(setting, "digits")),
        model=Named(setting.split("_")[0]),
        method=Named(method),
        batch=BatchConfig(regime=regime, size=batch_size),
        optim=NesterovOptions(lr=rate / 10 if regime == "small" else rate),
        train=TrainConfig(epochs=epochs),
    )


def history_frame(
    epochs: int, test_accuracy: float, gap: float, lr: float = 0.1, realistic: bool = False, seed: int = 0
) -> pd.DataFrame:
    """A history of `epochs` rows whose last one has exactly this test accuracy and this gap."""
    t = np.arange(1, epochs + 1) / epochs
    drop = (t > 0.5).astype(float) + (t > 0.75)
    rise = np.ones(epochs)
    noise = np.zeros(epochs)
    level = t.copy()
    if realistic:
        random = np.random.default_rng(seed)
        level = (0.75 * (1 - np.exp(-8 * t)) + 0.1 * drop) / (0.75 * (1 - np.exp(-8)) + 0.2)
        rise = (0.1 + 0.9 * level**3) + 0.05 * (1 - t)
        noise = random.normal(0, 0.012, epochs) * (0.3 + (drop == 0))
        level[-1], rise[-1], noise[-1] = 1.0, 1.0, 0.0
    test = np.clip(test_accuracy * level + noise, 0.0, 1.0)
    test[-1] = test_accuracy
    gaps = gap * rise - noise / 2
    train = test + gaps
    frame = pd.DataFrame({"epoch": np.arange(1, epochs + 1, dtype=float), "step": np.arange(1, epochs + 1) * 10})
    frame["lr"] = lr * 0.1**drop
    frame["train_loss"], frame["train_accuracy"] = 1.5 * (1 - train) + 0.01, train
    frame["test_loss"], frame["test_accuracy"] = 1.8 * (1 - test) + 0.01, test
    frame["gap"] = train - test
    frame["running_train_loss"], frame["running_train_accuracy"] = 1.6 * (1 - train) + 0.01, train - 0.01
    frame["train_gradient_norm"] = 0.2 + 2 * np.abs(1 - train) + np.abs(noise)
    frame["test_gradient_norm"] = 0.3 + 4 * np.abs(gaps) + np.abs(noise)
    for part in ("train", "test"):
        frame[f"{part}_gradient_norm_rms"] = 1.5 * frame[f"{part}_gradient_norm"]
    frame["sigma_max"], frame["sigma_mean"], frame["frobenius"] = 3.0 + t, 2.0 + t / 2, 20.0 + t
    frame["penalty"], frame[RECALIBRATED.name] = 0.0, test
    frame["train_seconds"], frame["measure_seconds"] = 10 * frame["epoch"], frame["epoch"] / 2
    return frame[HISTORY]


def _weights(sigma_max: float, skew: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    layers, spectra = [], []
    for number, (kind, rows, columns) in enumerate(SHAPES):
        count = min(rows, columns)
        values = sigma_max * (1 - 0.05 * number) * np.exp(-skew * np.arange(count) / count)
        name = f"features.{3 * number}.weight" if kind == "conv" else "classifier.weight"
        circular = 1.5 * values[0] if kind == "conv" else None
        norm = 1.4 * values[0] if kind == "conv" else values[0]
        layers.append((name, kind, rows, columns, values[0], float(np.sqrt((values**2).sum())), norm, circular))
        spectra.append(pd.DataFrame({"layer": name, "index": np.arange(count), "singular_value": values}))
    return pd.DataFrame(layers, columns=list(LAYERS)), pd.concat(spectra)[list(SPECTRA)]


def _replace(frame: pd.DataFrame, columns: dict[str, Any]) -> pd.DataFrame:
    frame = frame.assign(**columns)
    if RECALIBRATED.name not in columns:
        frame[RECALIBRATED.name] = frame["test_accuracy"]
    if {"train_accuracy", "test_accuracy"} & columns.keys():
        frame["gap"] = frame["train_accuracy"] - frame["test_accuracy"]
    return frame


def write_run(
    folder: Path,
    setting: str = "vgg_cifar10",
    method: str = "vanilla",
    regime: str = "small",
    seed: int = 0,
    *,
    epochs: int = 3,
    test_accuracy: float | None = None,
    gap: float | None = None,
    status: str = "ok",
    realistic: bool = False,
    history: dict[str, Any] | None = None,
    hessian: dict[str, float] | bool | None = True,
    sigma_max: float = 4.0,
    skew: float = 3.0,
    spectra: bool = True,
    **overrides: Any,
) -> Path:
    """Writes one run under the experiment folder `folder` and returns its directory.

    `history` replaces columns of the history, from which final, best and gap at alpha follow.
    `hessian` gives the eigenvalues as {"train": x, "test": y}; False leaves them out. `skew` is the
    log of the ratio of the largest to the smallest singular value. `overrides` replace fields of
    Result.
    """
    place = (setting, method, regime)
    paper = _paper().get(place, (0.9, 0.8, 0.05))
    sizes = (64, 4096) if setting in DATA else (32, 512)
    config = config_for(folder, place, seed, epochs, overrides.get("batch_size", sizes[regime == "large"]))
    code = int(hashlib.sha256(config.run_id.encode()).hexdigest()[:8], 16)
    accuracy = paper[0] if test_accuracy is None else test_accuracy
    frame = history_frame(epochs, accuracy, paper[2] if gap is None else gap, config.optim.lr, realistic, code)
    frame = _replace(frame, history or {})
    if status != "ok":
        frame = frame.iloc[: epochs // 2]
    eigenvalues = {"train": 20.0, "test": 30.0} if hessian is True else hessian
    weights = _weights(sigma_max, skew) if status == "ok" and spectra else ()
    measured = measured_at_end(frame, eigenvalues or None, weights) if status == "ok" else dict.fromkeys(MEASURED)
    result = _result(config, frame, status, measured, overrides)
    return _write(folder / result.run_id, config, result, (frame, *weights))


def _write(directory: Path, config: Config, result: Result, tables: tuple[pd.DataFrame, ...]) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.yaml").write_text(yaml.safe_dump(to_dict(config), sort_keys=False))
    for name, table in zip(("history", "layers", "spectra"), tables, strict=False):
        table.to_csv(directory / f"{name}.csv", index=False, float_format="%.17g")
    write_result(directory, result)
    return directory


def _result(
    config: Config, frame: pd.DataFrame, status: str, measured: dict[str, Any], overrides: dict[str, Any]
) -> Result:
    rows = frame.to_dict("records")
    alpha = overrides.pop("alpha", config.task.alpha)
    reached = gap_at_alpha(rows, alpha) if status == "ok" else None
    values: dict[str, Any] = {
        "schema": SCHEMA_VERSION,
        "run_id": config.run_id,
        "experiment": config.experiment.name,
        "status": status,
        "reason": None if status == "ok" else f"the loss stopped being finite ({status})",
        "setting": config.setting,
        "method": config.method.name,
        "regime": config.batch.regime,
        "batch_size": config.batch.size,
        "seed": config.seed,
        "variant": config.variant,
        "epochs": config.train.epochs,
        "steps": int(frame["step"].iloc[-1]) if len(frame) else 0,
        "task": "classification",
        "optimizer": "nesterov",
        "columns": HISTORY,
        "score": "test_accuracy",
        "high_is_good": True,
        "final": rows[-1] if rows else {},
        "best": max(rows, key=lambda row: row["test_accuracy"]) if rows else {},
        "dose": {"learning_rate_sum": 1.0, "factor": 0.01, "e_folds": 2.5}
        if config.method.name in ("decay", "spectral")
        else {"learning_rate_sum": 1.0, "factor": None, "e_folds": None},
        "measured": measured
        | {
            "alpha": alpha,
            "gap_at_alpha": None if reached is None else reached[0],
            "gap_at_alpha_epoch": None if reached is None else reached[1],
        },
        "timings": TIMINGS,
        "memory": MEMORY,
        "environment": ENVIRONMENT,
        "command": f"python -m sns setting={config.setting} method={config.method.name} seed={config.seed}",
    }
    values["measured"] |= {name: overrides.pop(name) for name in MEASURED if name in overrides}
    return Result(**{**values, **overrides})


def write_grid(
    folder: Path,
    settings: Iterable[str] = ("vgg_cifar10",),
    methods: Iterable[str] = METHODS,
    regimes: Iterable[str] = REGIMES,
    seeds: Iterable[int] = (0,),
    epochs: int = 3,
    effect: Callable[[str, str, str, int], dict[str, Any]] | None = None,
    **common: Any,
) -> Path:
    """Writes one run for each setting, method, regime and seed. Returns `folder`.

    `effect(setting, method, regime, seed)` gives the arguments of write_run that differ from
    `common`.
    """
    for setting in settings:
        for method in methods:
            for regime in regimes:
                for seed in seeds:
                    chosen = {} if effect is None else effect(setting, method, regime, seed)
                    write_run(folder, setting, method, regime, seed, epochs=epochs, **{**common, **chosen})
    return folder


STUDY_DEFAULTS = {"batch": {"ghost": 104}, "method": {"n_iterations": 1, "scope": "all"}, "model": {"dropout": 0.0}}


def write_study_run(
    folder: Path, method: str, seed: int, accuracy: float, change: dict[str, Any] | None = None, **own: Any
) -> Path:
    """A run of a sensitivity study: of vgg_pocket at B=416, or elsewhere by `own`.

    Its configuration is the default but for `change`.
    """
    change = change or {}
    setting, regime = own.pop("setting", "vgg_pocket"), own.pop("regime", "large")
    name = f"{setting}__{method}__{regime}__s{seed}__" + "_".join(f"{k}={v}" for k, v in change.items())
    own = {
        "run_id": name,
        "variant": f"{zlib.crc32(name.replace(f's{seed}', '').encode()):08x}",
        "batch_size": 416,
        **own,
    }
    place = write_run(folder, setting, method, regime, seed, test_accuracy=accuracy, gap=own.pop("gap", 0.2), **own)
    config = yaml.safe_load((place / "config.yaml").read_text())
    for section, fields in STUDY_DEFAULTS.items():
        config[section] |= fields
    for key, value in change.items():
        section, _, field = key.partition(".")
        config[section][field] = value
    (place / "config.yaml").write_text(yaml.safe_dump(config))
    return place
