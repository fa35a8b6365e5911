"""The status page: what it shows for each file of a run directory, and that it starts without the
slow libraries."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT
from synthetic import write_run

from sns.launch import manifest, slurm, status
from sns.record import attempts, store
from sns.record.attempts import Attempts
from sns.record.lock import RunLock
from sns.train.progress import PROGRESS, Reporter


def one(folder: Path) -> status.Line:
    (line,) = status.lines(folder)
    return line


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of the experiment in tmp_path that is in its manifest and has not started."""
    content = manifest.merge({"launches": [], "runs": {}}, {"cell": []}, {"command": "", "time": ""})
    (tmp_path / manifest.FILE).write_text(json.dumps(content))
    assert one(tmp_path).state == "to do"
    (tmp_path / "cell").mkdir()
    return tmp_path / "cell"


def test_a_running_run_shows_where_it_is_and_how_far(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "12")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    attempts.begin(run)
    (run / PROGRESS).write_text(
        json.dumps({"step": 30, "total": 120, "epoch": 2.0, "seconds_left": 90.0, "time": time.time() - 30})
    )
    with RunLock(run):
        line = one(run.parent)
    assert (line.state, line.percent, line.epoch, line.stops) == ("running", 25.0, 2.0, 0)
    assert line.where.endswith("Slurm 12_3")
    assert line.left == pytest.approx(60, abs=5)


@pytest.mark.parametrize(
    ("last", "state", "note"),
    [
        (Attempts("stopped", begun=3), "stopped", "the next launch resumes it"),
        (Attempts("failed", begun=3, reason="ValueError: bad\nmore"), "failed", "ValueError: bad"),
        (Attempts("running", begun=3), "dead", "from its last checkpoint"),
    ],
)
def test_a_run_that_ended_early_says_how(run: Path, last: Attempts, state: str, note: str) -> None:
    attempts.save(run, last)
    line = one(run.parent)
    assert (line.state, line.stops) == (state, 2)
    assert note in line.note
    assert "more" not in line.note


def test_a_stopped_run_that_slurm_has_is_queued(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts.save(run, Attempts("stopped", begun=1))
    monkeypatch.setattr(slurm, "queued", lambda folder: {"cell": "12_0"})
    line = one(run.parent)
    assert (line.state, line.where) == ("queued", "Slurm 12_0")
    assert "resumes" in line.note


@pytest.mark.parametrize(
    ("changes", "state", "note"),
    [
        ({}, "done", "test accuracy 0.5000"),
        ({"status": "diverged", "reason": "not finite"}, "diverged", "not finite"),
        ({"schema": 99}, "failed", "has schema 99"),
    ],
)
def test_a_finished_run_is_judged_by_its_record(
    tmp_path: Path, changes: dict[str, object], state: str, note: str
) -> None:
    directory = write_run(tmp_path / "runs/mine", test_accuracy=0.5, gap=0.25, spectra=False)
    file = directory / store.RESULT
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    attempts.save(directory, Attempts("running", begun=1))
    line = one(directory.parent)
    assert line.state == state
    assert note in line.note


def test_the_heartbeat_is_written_while_a_run_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = dict.fromkeys(("train_loss", "train_accuracy", "test_loss"), 1.0)
    with Reporter("none", tmp_path, "title", 100) as reporter:
        reporter.step(7)
        assert json.loads((tmp_path / PROGRESS).read_text())["step"] == 7
        reporter.step(8)  # at once after: not written
        assert json.loads((tmp_path / PROGRESS).read_text())["step"] == 7
        reporter._written_at -= 60
        reporter.evaluation(row | {"step": 50.0, "epoch": 2.0, "test_accuracy": 0.5}, 1.0, 33.0)
        written = json.loads((tmp_path / PROGRESS).read_text())
        assert (written["step"], written["total"], written["epoch"], written["seconds_left"]) == (50, 100, 2.0, 33.0)
    assert not list(tmp_path.glob("*.tmp"))


def page(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts/status.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_page_as_a_command(run: Path, tmp_path: Path) -> None:
    mine = tmp_path / "results/runs/mine"
    mine.mkdir(parents=True)
    (tmp_path / manifest.FILE).rename(mine / manifest.FILE)
    done = page(tmp_path / "results")
    assert done.returncode == 0
    assert "1 runs: 1 to do" in done.stdout
    assert "cell" in done.stdout
    for wrong, says in (
        ((tmp_path / "results", "--experiment=other"), "no experiment other"),
        (("/nowhere",), "holds no experiment"),
        (("--wrong",), "unrecognized arguments"),
    ):
        bad = page(*wrong)
        assert bad.returncode == 1
        assert says in bad.stderr
        assert "Traceback" not in bad.stderr


def test_the_page_needs_neither_torch_nor_pandas() -> None:
    code = "import sys; import sns.launch.status; sys.exit(any(name in sys.modules for name in ('torch', 'pandas')))"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
