"""What a sweep needs is checked once: a line a cause; what can run runs; a table at the end."""

import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, TINY

from sns.launch import needs
from sns.launch import run_sweep as run_sweep_module
from sns.launch.attempt import attempt
from sns.launch.run_sweep import Sweep
from sns.launch.sweep import MANY, SweepRun, dry_run
from sns.record import attempts, store

FAST = [*TINY, "measure.hessian=false", "measure.spectra=false", "train.epochs=1"]
AWAY = "data.download=false"


def train(*words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(ROOT / "scripts/train.py"), *FAST, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)


def sweep(*words: str) -> list[SweepRun]:
    runs, errors = dry_run([*FAST, *words])
    assert not errors
    return runs


def test_a_missing_data_set_is_one_line_for_all_runs_and_the_others_train(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = f"results={tmp_path}"
    lacking = [
        *sweep(here, AWAY, f"data.root={tmp_path}", "data=cifar10,cifar100", "seed=0,1", "data.subset=null"),
        *sweep(here, "data=npz", f"data.path={tmp_path}/no.npz", "seed=0,1", "data.subset=null"),
    ]
    good = sweep(here, "seed=0,1")
    launched: list[SweepRun] = []

    def launch(runs: Sequence[SweepRun]) -> None:
        launched.extend(runs)
        for run in runs:
            attempt(run.config, "", in_sweep=True)

    assert Sweep([*lacking, *good], ["test"]).run(launch) == 1
    assert {run.config.run_id for run in launched} == {run.config.run_id for run in good}
    err = capsys.readouterr().err.splitlines()
    assert [line.split(" does not exist")[0] for line in err[:3]] == [
        f"error: {tmp_path}/{name}" for name in ("cifar-10-batches-py", "cifar-100-python", "no.npz")
    ]
    assert all(line.endswith("[2 runs need it]") for line in err[:3])
    assert all(attempts.load(run.config.directory).begun == 0 for run in lacking)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["train.device=cuda:77"], "train.device=cuda:77 asks for"),
        (["train.device=gpu"], "train.device=gpu is unknown"),
    ],
)
def test_a_missing_device_is_one_line(tmp_path: Path, words: list[str], says: str) -> None:
    runs = sweep(f"results={tmp_path}", "seed=0,1,2", *words)
    lacking = needs.missing(runs)
    assert list(lacking) == runs
    (line,) = needs.lines(lacking)
    assert line.startswith(says)
    assert line.endswith("[3 runs need it]")


@pytest.mark.parametrize("content", ["absent", "text", "lacks", "good"])
def test_an_own_file_is_looked_at_before_the_first_run(tmp_path: Path, content: str) -> None:
    file = tmp_path / "own.npz"
    images = {f"x_{split}": np.zeros((4, 8, 8, 1), np.uint8) for split in ("train", "test")}
    labels = {f"y_{split}": np.array([0, 1, 0, 1]) for split in ("train", "test")}
    if content == "text":
        file.write_text("no archive")
    elif content != "absent":
        np.savez(file, **images, **(labels if content == "good" else {}))
    lines = needs.lines(needs.missing(sweep(f"results={tmp_path}", "data=npz", f"data.path={file}", "seed=0,1")))
    assert len(lines) == (content != "good")


def test_too_little_disk_is_said_before_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configs = [run.config for run in sweep(f"results={tmp_path}", "seed=0,1,2")]
    assert needs.disk(configs) is None
    monkeypatch.setattr(needs.shutil, "disk_usage", lambda path: needs.shutil._ntuple_diskusage(1, 1, 1000))
    assert "the checkpoints of 3 runs need" in str(needs.disk(configs))


def test_a_long_sweep_says_first_how_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = sweep(f"results={tmp_path}", "seed=0,1")
    monkeypatch.setattr(run_sweep_module.estimate, "DAY", 1e-9)
    monkeypatch.setattr(run_sweep_module.estimate, "FEW", 0)  # these runs are estimated too
    Sweep(runs, ["test"]).run(lambda todo: None)
    assert capsys.readouterr().out.startswith("2 runs need about")
    Sweep(runs, ["test"], here=False).run(lambda todo: None)  # on a cluster, this device says nothing
    assert capsys.readouterr().out.startswith("2 runs: 2 to do")


@pytest.mark.parametrize("launcher", ["basic", "local"])
def test_one_mistake_of_many_runs_is_told_once_and_counted_once(tmp_path: Path, launcher: str) -> None:
    done = train("-m", f"results={tmp_path}", "seed=0,1,2", "data.subset=100000", f"hydra/launcher={launcher}")
    lines = Counter(line.split("100000")[0] for line in done.stderr.splitlines())
    assert lines == {"error: data.subset=": 1, "error: 3 runs: data.subset=": 1}
    assert done.returncode == 1


def test_a_budget_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    done = train("-m", f"results={tmp_path}", "seed=0,1,2", "launch.budget=9min")
    (line,) = done.stderr.splitlines()
    assert "launch.budget=9min is not a length of time" in line
    assert "and 2 more" in line
    assert (done.returncode, done.stdout) == (1, "")


def test_an_experiment_without_m_says_that_it_is_one_run(tmp_path: Path) -> None:
    done = train(f"results={tmp_path}", "experiment=demo")
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert "varies setting, batch, method, seed: this is one of its runs" in line
    assert "add -m" in line
    (directory,) = store.run_directories(tmp_path / "runs")
    assert directory.name in line


def test_composing_many_runs_says_so_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep(f"results={tmp_path}", f"seed=range({MANY})")
    assert capsys.readouterr().err == f"composing {MANY} runs ...\n"
    sweep(f"results={tmp_path}", "seed=0,1")
    assert capsys.readouterr().err == ""


def test_the_central_command_ends_with_a_table(tmp_path: Path) -> None:
    options = [f"RESULTS={tmp_path}", f"ARGS=track=disabled data.root={tmp_path}/data {AWAY} train.device=cpu"]
    make = [
        "make",
        "--no-print-directory",
        "-o",
        ".venv/.complete",
        "reproduce-table1",
        f"PYTHON={sys.executable}",
        *options,
    ]
    done = subprocess.run(make, capture_output=True, text=True, check=False, cwd=ROOT, timeout=200)
    assert done.returncode == 2  # make's own, for 1
    assert done.stdout.splitlines()[0].startswith("32 runs need about")
    assert "make pocket" in done.stdout.splitlines()[0]
    assert Counter(line.startswith("error: ") for line in done.stderr.splitlines())[True] == 3
    table = (tmp_path / "table1" / "table1.md").read_text()
    assert table.count("not run") >= 64
    assert "paper 0.904" in table
