"""The status page: what each file of a run directory makes it say, and that it starts without the
heavy libraries."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT

from sns.launch import manifest, slurm, status
from sns.record import attempts
from sns.record.attempts import Attempts
from sns.record.lock import RunLock
from sns.train.progress import PROGRESS, Reporter


def one(folder: Path) -> status.Line:
    (line,) = status.lines(folder)
    return line


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of the grid in tmp_path that is in the manifest and has not begun."""
    content = manifest.merge({"launches": [], "runs": {}}, {"cell": []}, {"command": "", "time": ""})
    (tmp_path / manifest.FILE).write_text(json.dumps(content))
    assert one(tmp_path).state == "queued"
    (tmp_path / "cell").mkdir()
    return tmp_path / "cell"


def test_a_running_run_tells_where_it_is_and_how_far(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    ("state", "says", "note"),
    [
        (Attempts("stopped", begun=3), "stopped", "goes on"),
        (Attempts("failed", begun=3, reason="ValueError: bad\nmore"), "failed", "ValueError: bad"),
        (Attempts("refused", begun=3, reason="no such archive"), "refused", "no such archive"),
        (Attempts("open", begun=3), "died", "from its checkpoint"),
    ],
)
def test_a_run_that_ended_early_says_how(run: Path, state: Attempts, says: str, note: str) -> None:
    attempts.save(run, state)
    line = one(run.parent)
    assert (line.state, line.stops) == (says, 2)
    assert note in line.note
    assert "more" not in line.note


def test_a_stopped_run_that_slurm_has_is_queued(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts.save(run, Attempts("stopped", begun=1))
    monkeypatch.setattr(slurm, "queued", lambda folder: {"cell": "12_0"})
    line = one(run.parent)
    assert (line.state, line.where) == ("queued", "Slurm 12_0")
    assert "goes on" in line.note


@pytest.mark.parametrize(
    ("result", "state", "note"),
    [
        ({"status": "ok", "final": {"test_accuracy": 0.5, "gap": 0.25, "epoch": 3}}, "done", "0.5000"),
        ({"status": "diverged", "reason": "not finite"}, "diverged", "not finite"),
        ({"status": "failed", "reason": "3 times"}, "failed", "3 times"),
        ([], "damaged", "cannot be read"),
    ],
)
def test_a_run_that_is_over_is_judged_by_its_record(run: Path, result: object, state: str, note: str) -> None:
    attempts.save(run, Attempts("open", begun=1))
    (run / status.RESULT).write_text(json.dumps(result))
    assert one(run.parent).state == state
    assert note in one(run.parent).note


def test_the_heartbeat_is_written_while_a_run_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = dict.fromkeys(("train_loss", "train_accuracy", "test_loss"), 1.0)
    with Reporter("none", tmp_path, "title", 100) as reporter:
        reporter.step(7)
        assert json.loads((tmp_path / PROGRESS).read_text())["step"] == 7
        reporter.step(8)  # at once after: not written
        assert json.loads((tmp_path / PROGRESS).read_text())["step"] == 7
        reporter._beaten -= 60
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
    assert "1 runs: 1 queued" in done.stdout
    assert "cell" in done.stdout
    for wrong, says in (
        ((tmp_path / "results", "--experiment=other"), "no experiment other"),
        (("/nowhere",), "holds no experiment"),
    ):
        bad = page(*wrong)
        assert bad.returncode == 1
        assert says in bad.stderr
        assert "Traceback" not in bad.stderr


def test_the_page_needs_neither_torch_nor_pandas() -> None:
    code = "import sys; import sns.launch.status; sys.exit(any(name in sys.modules for name in ('torch', 'pandas')))"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
