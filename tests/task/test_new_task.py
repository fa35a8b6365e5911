"""A user's own task needs one file, here that of CONTRIBUTING.md.

It trains, resumes bit by bit after a kill, is recorded, shown by status and summarised in a table.
Every method and optimizer works on it.
"""

import dataclasses
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import recipe
import torch
from conftest import ROOT
from rich.console import Console

from sns import method as methods
from sns import optim
from sns.analysis import scores
from sns.analysis.cells import load_experiment
from sns.common.errors import ConfigError, RecordError
from sns.config.schema import Config
from sns.launch import status
from sns.launch.estimate import Estimator
from sns.method import METHODS
from sns.optim import OPTIMIZERS
from sns.record import store
from sns.record.schema import RUN_COLUMNS
from sns.task import TASKS, Setup
from sns.task.base import Pieces
from sns.train import checkpoint
from sns.train.configure import configure
from sns.train.run import advance, run
from sns.train.session import start
from sns.train.stop import Interrupted

sys.path.insert(0, str(ROOT / "scripts"))
import scores as scores_script
import verify as verify_script

regression = recipe.load("sns/task/regression.py")
OTHERS = ("spectral_operator", "gan_gp", "wgan_gp")  # for images, and for critics
MEASURED = ["train_error", "test_error", "penalty"]


def toy(results: Path, problem: str = "decay", name: str = "toy", seed: int = 0, **sections: Any) -> Config:
    tree: dict[str, Any] = {
        "setting": "made_vectors",
        "results": str(results),
        "seed": seed,
        "experiment": {"name": name},
        "task": {"name": "regression"},
        "method": {"name": problem},
        "batch": {"regime": "small", "size": 8},
        "optim": {"name": "nesterov", "lr": 0.05},
        "train": {"epochs": 60, "progress": "none", "device": "cpu", "threads": 1},
        "track": {"mode": "disabled"},
    }
    return configure(tree | {key: tree.get(key, {}) | value for key, value in sections.items()})


def test_it_learns_and_its_record_says_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def final(task: Any, pieces: Pieces) -> dict[str, Any]:
        return {"weight_norm": pieces.once("weight norm", lambda: task.model[0].weight.norm().item())}

    monkeypatch.setattr(regression.Regression, "final", final)
    config = toy(tmp_path)
    result = run(config)
    record = store.read(config.directory)
    assert (result.task, result.score, result.high_is_good) == ("regression", "test_error", False)
    assert record.result == result
    assert [name for name in record.history.columns if name not in RUN_COLUMNS] == MEASURED
    errors = record.history["test_error"]
    assert errors.iloc[-1] < 0.2 < errors.iloc[0]
    assert result.best["test_error"] == errors.min()
    assert result.measured["weight_norm"] > 0
    assert result.dose["e_folds"] == pytest.approx(config.method.factor * result.dose["learning_rate_sum"] / 0.1)


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = sys.argv[3:]
from test_new_task import toy
import sns.train.run as module
config = toy(Path(sys.argv[1]), name="killed", train={"checkpoint_minutes": 0.0})
advance = module.advance
def deadly(session):
    advance(session)
    if session.step == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
module.advance = deadly
module.run(config)
"""


def test_killed_twice_it_resumes_to_the_bit(tmp_path: Path) -> None:
    whole = toy(tmp_path, name="whole")
    run(whole)
    folders = [str(ROOT / "tests/task"), str(ROOT / "tests"), str(ROOT)]
    for step in (7, 55):
        done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(step), *folders], check=False)
        assert done.returncode == -9
    killed = toy(tmp_path, name="killed")
    assert run(killed).timings["sessions"] == 3
    a, b = (store.read(c.directory).history.drop(columns=["train_seconds", "measure_seconds"]) for c in (whole, killed))
    pd.testing.assert_frame_equal(a, b, check_exact=True)
    x, y = (checkpoint.load(c.directory) for c in (whole, killed))
    assert x is not None
    assert y is not None
    assert all(x["task"]["model"][name].equal(y["task"]["model"][name]) for name in x["task"]["model"])


def test_status_and_tables_show_it(tmp_path: Path) -> None:
    for method in ("vanilla", "spectral"):
        for seed in (0, 1):
            run(toy(tmp_path, method, seed=seed))
    folder = tmp_path / "runs" / "toy"
    lines = status.lines(folder)
    assert {line.state for line in lines} == {"done"}
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(status.table("toy", lines))
    assert console.export_text().count("test error 0.") == 4
    frame = scores.compute(load_experiment(tmp_path, "toy", task=None)[1])
    assert frame[["method", "score", "n"]].values.tolist() == [
        ["vanilla", "test_error", 2],
        ["spectral", "test_error", 2],
    ]
    assert "| made_vectors | 8 | spectral |  | test_error | 2 of 2 | 0." in scores.to_markdown(frame)
    with pytest.raises(RecordError, match=r"task=regression: left out; scripts/scores\.py shows it"):
        load_experiment(tmp_path, "toy")


@pytest.mark.parametrize("method", [name for name in METHODS if name not in OTHERS])
def test_every_method_works_on_it(tmp_path: Path, method: str) -> None:
    """The target's slope is sqrt(5). Layers of norm 1 allow a slope of 1 only: an error of
    (sqrt(5) - 1)^2 at best, less what the noise of 40 examples allows."""
    least, most = (1.2, 2.5) if method in ("spectral_normalization", "stable_rank") else (0.0, 0.5)
    wide = {"limit": 3.0} if hasattr(METHODS[method].Config(), "limit") else {}  # so that the target is in reach
    assert least < run(toy(tmp_path, method, method={"name": method} | wide)).final["test_error"] < most


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_learns_and_resumes_to_the_bit(tmp_path: Path, name: str) -> None:
    options = {"name": name, "lr": 0.02}
    whole, parts = (toy(tmp_path, name=part, optim=options) for part in ("whole", "parts"))
    result = run(whole)
    assert result.optimizer == name
    assert result.final["test_error"] < 0.2
    assert (result.dose["e_folds"] is None) == (name not in ("nesterov", "sgd"))
    with pytest.raises(Exception, match="stop_after=33"):
        run(toy(tmp_path, name="parts", optim=options, train={"stop_after": 33}))
    run(parts)
    a, b = (store.read(c.directory).history[MEASURED] for c in (whole, parts))
    pd.testing.assert_frame_equal(a, b, check_exact=True)


def test_its_run_ids_are_its_own(tmp_path: Path) -> None:
    """Options of the task, the optimizer and the method are part of the identity."""
    variants = [
        {},
        {"task": {"noise": 0.2}},
        {"optim": {"name": "sgd"}},
        {"optim": {"name": "adam"}},
        {"method": {"factor": 1.0}},
    ]
    assert len({toy(tmp_path, **sections).run_id for sections in variants}) == len(variants)


def test_a_task_name_is_registered_once() -> None:
    assert TASKS["regression"] is regression.Regression
    with pytest.raises(ValueError, match="already registered"):
        regression.register("regression")(TASKS["classification"])


def test_variants_of_a_cell_are_rows_of_their_own_and_say_how_they_differ(tmp_path: Path) -> None:
    for name in ("nesterov", "adam"):
        for seed in (0, 1):
            run(toy(tmp_path, seed=seed, optim={"name": name, "lr": 0.01}, train={"epochs": 2}))
    run(toy(tmp_path, "vanilla", train={"epochs": 2}))
    frame = scores.compute(load_experiment(tmp_path, "toy", task=None)[1])
    rows = frame[["method", "options", "n"]].values.tolist()
    assert sorted(rows) == [["decay", "optim.name=adam", 2], ["decay", "optim.name=nesterov", 2], ["vanilla", "", 1]]
    (warning,) = load_experiment(tmp_path, "toy", task=None)[1].warnings
    assert "left out, because the 2 run(s) that are shown have optim.name=" in warning


def test_weights_that_a_task_leaves_to_torch_are_seeded_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regression, "initialize", lambda *_: None)
    first, second = (toy(tmp_path / name, train={"epochs": 2}) for name in "ab")
    a = run(first)
    torch.rand(3)
    b = run(second)
    assert a.final["test_error"] == b.final["test_error"]


def test_the_scripts_take_a_task_without_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = toy(tmp_path, train={"epochs": 2})
    assert Estimator().seconds(config) is None  # the dry run has no operations to count
    assert (Estimator(timing=True).seconds(config) or 0) > 0
    run(config)
    assert "every digit" in verify_script.retrain(config.directory, [])
    assert scores_script.main([str(tmp_path)]) == 0
    assert verify_script.main([str(tmp_path)]) == 0
    assert "all hold" in capsys.readouterr().out


def test_methods_that_need_real_valued_inputs_say_so() -> None:
    model = torch.nn.Linear(3, 2)
    for method, says in (
        ("adversarial", "whole numbers"),
        ("jacobian", "whole numbers"),
        ("spectral_operator", "needs images"),
    ):
        built = methods.build(METHODS[method].Config(), model, torch.Generator())
        with pytest.raises(ConfigError, match=says):
            built.backward(lambda x, share: {}, torch.zeros(4, 3, dtype=torch.int64), 1.0)


class TwoRates(regression.Regression):  # type: ignore[misc, name-defined]
    """The second layer has a faster optimizer of its own, as a second network would have."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        first, second = self.model[0], self.model[2]
        faster = dataclasses.replace(setup.config.optim, lr=10 * setup.config.optim.lr)
        self.optimizers = [
            optim.build(setup.config.optim, first.parameters()),
            optim.build(faster, second.parameters()),
        ]
        self.parts |= {"optimizer": self.optimizers[0], "second optimizer": self.optimizers[1]}

    def update(self) -> None:
        super().update()  # steps the first one
        self.optimizers[1].step()
        self.optimizers[1].zero_grad()


def test_a_task_may_have_two_optimizers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "regression", TwoRates)
    whole, parts = (toy(tmp_path, name=name, optim={"name": "nesterov", "lr": 0.002}) for name in ("whole", "parts"))
    result = run(whole)
    assert result.final["test_error"] < 0.5
    session = start(toy(tmp_path, name="rates", optim={"name": "nesterov", "lr": 0.002}))
    advance(session)
    assert [optimizer.rate for optimizer in session.task.optimizers] == [0.002, 0.02]
    with pytest.raises(Interrupted, match="stop_after=33"):
        run(toy(tmp_path, name="parts", optim={"name": "nesterov", "lr": 0.002}, train={"stop_after": 33}))
    run(parts)
    a, b = (store.read(c.directory).history[MEASURED] for c in (whole, parts))
    pd.testing.assert_frame_equal(a, b, check_exact=True)
