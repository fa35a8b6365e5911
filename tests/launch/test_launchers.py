"""hydra/launcher=local as a user meets it: a process for each run, a stop that saves, and the same
command again."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from conftest import ROOT, TINY

from sns.launch import status
from sns.record import attempts

SWEEP = [*TINY, "measure.hessian=false", "measure.spectra=false", "experiment.name=mine", "seed=0,1,2"]
LOCAL = ["hydra/launcher=local", "launch.processes=2", "train.threads=1"]


def train(results: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "scripts/train.py"), "-m", *SWEEP, *LOCAL, f"results={results}", *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_stopped_sweep_saves_its_runs_and_resumes(tmp_path: Path) -> None:
    folder = tmp_path / "runs/mine"
    sweep = train(tmp_path, "train.epochs=60")
    while sum(line.percent is not None for line in _lines(folder)) < 1:
        assert sweep.poll() is None, sweep.communicate()
        time.sleep(0.1)
    assert len(json.loads((folder / "manifest.json").read_text())["runs"]) == 3
    sweep.send_signal(signal.SIGTERM)
    output = sweep.communicate(timeout=120)
    assert sweep.returncode == 75, output
    lines = _lines(folder)
    assert "running" not in {line.state for line in lines}
    assert {line.state for line in lines} & {"stopped", "to do"}
    stopped = [line.run_id for line in lines if line.state == "stopped"]
    again = train(tmp_path, "train.epochs=60")
    output = again.communicate(timeout=300)
    assert again.returncode == 0, output
    assert {line.state for line in _lines(folder)} == {"done"}
    assert all(attempts.load(folder / run_id).begun == 2 for run_id in stopped)
    assert all((folder / run_id / "train.log").read_text().count(" done: test") == 1 for run_id in stopped)


def _lines(folder: Path) -> list[status.Line]:
    return status.lines(folder) if folder.is_dir() else []


def test_a_sweep_in_turns_stops_saves_and_resumes(tmp_path: Path) -> None:
    folder, turns = tmp_path / "runs/mine", ["hydra/launcher=basic", "launch.per_process=2", "train.epochs=60"]
    sweep = train(tmp_path, *turns)
    while sum(line.percent is not None for line in _lines(folder)) < 2:
        assert sweep.poll() is None, sweep.communicate()
        time.sleep(0.1)
    sweep.send_signal(signal.SIGTERM)
    output = sweep.communicate(timeout=120)
    assert sweep.returncode == 75, output
    assert sorted(line.state for line in _lines(folder)) == ["stopped", "stopped", "to do"]
    again = train(tmp_path, *turns)
    output = again.communicate(timeout=300)
    assert again.returncode == 0, output
    assert {line.state for line in _lines(folder)} == {"done"}


def test_turns_are_for_one_process(tmp_path: Path) -> None:
    sweep = train(tmp_path, "launch.per_process=2")
    _, errors = sweep.communicate(timeout=120)
    assert sweep.returncode == 1
    assert "error: launch.per_process=2 is for runs that this command trains itself" in errors
    assert not list(tmp_path.rglob("config.yaml"))


def test_slurm_where_there_is_none_is_one_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts/train.py"), "-m", *SWEEP, "hydra/launcher=slurm", f"results={tmp_path}"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/nowhere", "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 1
    assert "error: sbatch is not installed here" in done.stderr
    assert "Traceback" not in done.stderr
