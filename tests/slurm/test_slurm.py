"""A sweep on a real Slurm that is disturbed in every way Slurm knows: nothing is lost, nothing is
done twice, and every run ends as it would have ended undisturbed, to the bit.
"""

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import ROOT, TINY

from sns.launch import status
from sns.record import attempts
from sns.train import checkpoint

pytestmark = pytest.mark.slurm
SWEEP = [
    *TINY,
    "experiment.name=shaken",
    "train.threads=1",
    "measure.hessian=false",
    "method=vanilla,spectral",
    "seed=0,1,2,3",
]
LONG = 35.0  # seconds of a run on this machine, undisturbed: long enough to be disturbed in the middle
SLURM = ["hydra/launcher=slurm", "hydra.launcher.gpus=0", "hydra.launcher.cpus=1", "hydra.launcher.mem_gb=2"]
SLURM += ["hydra.launcher.timeout_min=6", "hydra.launcher.array_parallelism=2"]
PATIENCE = 240.0  # seconds


def train(results: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "scripts/train.py"), "-m", *SWEEP, f"results={results}", *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture(scope="module")
def length(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Epochs that take a run about LONG seconds here, and evaluations at every sixtieth of them."""
    place, trial = tmp_path_factory.mktemp("pace"), 200
    output = train(place, f"train.epochs={trial}", "measure.every=10", "method=spectral", "seed=0").communicate()[0]
    (file,) = place.glob("runs/shaken/*/result.json")
    timings = json.loads(file.read_text())["timings"]
    epochs = round(LONG / (timings["train_seconds"] + timings["measure_seconds"]) * trial)
    assert epochs > 60, output
    return [f"train.epochs={epochs}", f"measure.every={max(1, epochs // 60)}"]


def slurm(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def until(what: str, happened: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < end, f"{what}: not within {PATIENCE} s"
        time.sleep(0.5)


@dataclass
class Disturbed:
    """The disturbed sweep while it runs."""

    folder: Path
    used: set[str] = field(default_factory=set)

    def line(self, run_id: str) -> status.Line:
        return next(line for line in status.lines(self.folder) if line.run_id == run_id)

    def midway(self) -> list[status.Line]:
        """Runs in the middle of training that were not disturbed so far."""
        return [
            line
            for line in status.lines(self.folder)
            if line.state == "running" and line.run_id not in self.used and 3 < (line.percent or 0) < 60
        ]

    def victim(self) -> tuple[str, str]:
        """The run_id and the Slurm task of a run in the middle of training."""
        until("a run in the middle of training", lambda: bool(self.midway()))
        run_id = self.midway()[0].run_id
        self.used.add(run_id)
        return run_id, attempts.load(self.folder / run_id).job

    def leaves(self, run_id: str) -> None:
        """Waits until the run is off the machine and back in the queue, behind the others; the
        status page says so."""
        until(f"{run_id} is off the machine", lambda: self.line(run_id).state == "queued")
        line = self.line(run_id)
        assert line.state == "running" or "resumes" in line.note  # a free machine may have taken it at once


def requeued(sweep: Disturbed) -> str:
    run_id, task = sweep.victim()
    slurm("scontrol", "requeue", task)
    sweep.leaves(run_id)
    return run_id


def killed(sweep: Disturbed) -> str:
    run_id, task = sweep.victim()
    slurm("scancel", "--signal=KILL", f"{slurm('squeue', '-h', '-j', task, '-o', '%A')}.0")
    sweep.leaves(run_id)
    return run_id


def timed_out(sweep: Disturbed) -> str:
    """Slurm looks at time limits twice a minute only: a run may finish before its warning, then the
    next one is taken."""
    for _ in range(3):
        run_id, task = sweep.victim()
        spent = time.time() - attempts.load(sweep.folder / run_id).started
        slurm("scontrol", "update", f"JobId={task}", f"TimeLimit={math.ceil((spent + 60) / 60)}")
        until("the time limit", lambda run_id=run_id: sweep.line(run_id).state in ("queued", "done"))  # type: ignore[misc]
        if sweep.line(run_id).state != "done":
            break
    sweep.leaves(run_id)
    longer = ["scontrol", "update", f"JobId={task}", "TimeLimit=6"]  # refused until the old session is cleaned up
    until("the old limit", lambda: subprocess.run(longer, capture_output=True, check=False).returncode == 0)
    assert attempts.load(sweep.folder / run_id).stopped == 1  # it saved
    return run_id


def preempted(sweep: Disturbed) -> str:
    def both() -> list[str]:
        lines = status.lines(sweep.folder)
        return [line.run_id for line in lines if line.state == "running" and 0 < (line.percent or 0) < 60]

    until("two runs in the middle of training", lambda: len(both()) == 2)
    before = both()
    slurm("sbatch", "--partition=high", "--mem=100M", "--output=/dev/null", "--wrap=sleep 4")
    until("one of them gives way", lambda: any(sweep.line(run_id).state != "running" for run_id in before))
    (run_id,) = [run_id for run_id in before if sweep.line(run_id).state != "running"]
    sweep.used.add(run_id)
    sweep.leaves(run_id)
    return run_id


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory, length: list[str]) -> tuple[Path, Path, list[str]]:
    """The folder of an undisturbed sweep, that of the disturbed one, and the runs that were
    disturbed."""
    place = tmp_path_factory.mktemp("slurm")
    disturbed = train(place / "slurm", *length, *SLURM)
    calm = train(place / "calm", *length)
    try:
        sweep = Disturbed(place / "slurm/runs/shaken")
        until("the manifest", lambda: (sweep.folder / "manifest.json").is_file())
        assert {line.state for line in status.lines(sweep.folder)} <= {"to do", "queued", "running"}
        victims = [timed_out(sweep), requeued(sweep)]
        second = train(place / "slurm", *length, *SLURM)  # the same command while the first still waits
        victims += [killed(sweep), preempted(sweep)]
        output = second.communicate(timeout=900)[0]
        assert (second.returncode, "launching 0" in output) == (75, True), output
        output, code = disturbed.communicate(timeout=900)[0], disturbed.returncode
        assert code == 0, output
        output, code = calm.communicate(timeout=900)[0], calm.returncode
        assert code == 0, output
    finally:
        for process in (disturbed, calm):
            process.kill()
        subprocess.run(["scancel", "--user", str(os.getuid())], check=False)
    return place / "calm/runs/shaken", sweep.folder, victims


def test_every_run_is_done_and_says_how_often_it_was_stopped(ends: tuple[Path, Path, list[str]]) -> None:
    _, folder, victims = ends
    lines = {line.run_id: line for line in status.lines(folder)}
    assert {line.state for line in lines.values()} == {"done"}
    assert len(lines) == 8
    assert len(set(victims)) >= 3  # preemption chooses its own
    assert all(lines[run_id].stops >= 1 for run_id in victims)


def test_disturbed_runs_equal_undisturbed_ones_to_the_bit(ends: tuple[Path, Path, list[str]]) -> None:
    calm, folder, _ = ends
    for directory in sorted(path.parent for path in calm.glob("*/result.json")):
        one, two = (pd.read_csv(place / directory.name / "history.csv") for place in (calm, folder))
        times = [name for name in one if name.endswith("_seconds")]
        pd.testing.assert_frame_equal(one.drop(columns=times), two.drop(columns=times), check_exact=True)
        mine, theirs = (checkpoint.load(place / directory.name) for place in (calm, folder))
        assert mine is not None
        assert theirs is not None
        assert all(torch.equal(value, theirs["task"]["model"][name]) for name, value in mine["task"]["model"].items())


def test_no_run_was_trained_to_its_end_twice(ends: tuple[Path, Path, list[str]]) -> None:
    _, folder, _ = ends
    logs = list(folder.glob("*/train.log"))
    assert len(logs) == 8
    assert all(log.read_text().count(" done: test accuracy") == 1 for log in logs)


def test_the_same_command_again_submits_nothing(ends: tuple[Path, Path, list[str]], length: list[str]) -> None:
    _, folder, _ = ends
    before = list((folder / "slurm").iterdir())
    again = train(folder.parents[1], *length, *SLURM)
    output = again.communicate(timeout=120)[0]
    assert again.returncode == 0, output
    assert "launching 0" in output
    assert list((folder / "slurm").iterdir()) == before


def test_submitit_requeues_a_run_that_was_warned(tmp_path: Path, length: list[str]) -> None:
    """Two runs through hydra-submitit-launcher, one stopped in the middle by submitit's own
    signal."""
    options = ["hydra/launcher=submitit", "hydra.launcher.gpus_per_node=null", "hydra.launcher.cpus_per_task=1"]
    options += ["hydra.launcher.mem_gb=2", "hydra.launcher.timeout_min=5", "seed=0,1", "method=spectral"]
    sweep = train(tmp_path / "warned", *length, *options)
    folder = Disturbed(tmp_path / "warned/runs/shaken")
    try:
        run_id, task = folder.victim()
        slurm("scancel", "--signal=USR2", task)
        until("it has saved", lambda: attempts.load(folder.folder / run_id).stopped == 1)
        output = sweep.communicate(timeout=600)[0]
        assert sweep.returncode == 0, output
    finally:
        sweep.kill()
        subprocess.run(["scancel", "--user", str(os.getuid())], check=False)
    lines = status.lines(folder.folder)
    assert [(line.state, line.stops) for line in lines if line.run_id == run_id] == [("done", 1)]
    assert {line.state for line in lines} == {"done"}
