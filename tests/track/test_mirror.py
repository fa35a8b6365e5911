"""Weights & Biases shows what the records hold.

W&B's own tool reads back its files of a small sweep.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, TINY
from synthetic import HISTORY

from sns.config.schema import TrackConfig
from sns.record import store
from sns.track import sync
from sns.track.client import Mirror, open_message
from sns.track.wandb_run import WandbRun

pytest.importorskip("wandb")
SWEEP = ["-m", *TINY, "experiment.name=sweep", "track=offline", "measure.hessian=false", "method=vanilla,spectral"]
LONG = [
    *TINY,
    "experiment.name=killed",
    "track=offline",
    "measure.hessian=false",
    "train.epochs=40",
]
PATIENCE = 300.0


def wait_for(condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)
    return value


def train(results: Path, arguments: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, str(ROOT / "scripts/train.py"), *arguments, f"results={results}"])


class Shown:
    """What W&B's file of one session says."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        self.all = [json.loads(line) for line in lines]
        self.run = self.of("run")[0]
        self.summary: dict[str, Any] = {}
        for update in self.of("summary"):
            self.summary |= update["update"]
        items = [entry["item"] for entry in self.of("history")]
        self.rows = [{name: item[name] for name in HISTORY if name in item} for item in items if "epoch" in item]
        self.last = items[-1]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [entry[kind] for entry in self.all if entry["type"] == kind]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of two runs, and one run that is killed after two evaluations and resumed."""
    folder = tmp_path_factory.mktemp("tracked") / "results"
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            patch.delenv(name)
        patch.setenv("NETRC", "/nonexistent")
        assert train(folder, SWEEP).wait() == 0
        victim = train(folder, [*LONG, "train.checkpoint_minutes=0"])
        wait_for(lambda: any(file.read_text().count("\n") > 2 for file in folder.glob("runs/killed/*/history.csv")))
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        wait_for(lambda: len(list((folder / "wandb").glob("offline-run-*/closed"))) == 3)
        assert train(folder, LONG).wait() == 0
        wait_for(lambda: len(list((folder / "wandb").glob("offline-run-*/closed"))) == 4)
    return folder


def sessions(results: Path, experiment: str) -> list[tuple[Path, list[Path]]]:
    """Run directories and W&B's folders of their sessions."""
    folders = sync.closed_sessions(results / "wandb")
    return [(path, folders[path.name]) for path in store.run_directories(results / "runs" / experiment)]


def check_equal(directory: Path, folder: Path) -> Shown:
    """The newest session shows the whole record."""
    record, shown = store.read(directory), Shown(folder)
    assert shown.rows == [{k: v for k, v in row.items() if v == v} for row in store.read_history(directory)]
    for name, value in json.loads((directory / store.RESULT).read_text()).items():
        assert shown.summary[name] == value, name
    assert shown.run["run_id"] == directory.name == record.result.run_id
    config = shown.run["config"]["update"]
    saved = yaml.safe_load((directory / store.CONFIG).read_text())
    assert {name: config[name] for name in saved} == json.loads(json.dumps(saved))
    assert config["code"]["commit"] == record.result.environment["commit"]
    return shown


def test_a_sweep_is_shown_as_recorded(results: Path) -> None:
    for directory, (folder,) in sessions(results, "sweep"):
        shown, result = check_equal(directory, folder), store.read(directory).result
        assert shown.run["run_group"] == "digits_vgg b16"
        assert (shown.run["job_type"], shown.run["tags"]) == (result.method, ["sweep"])
        assert shown.run["resume"] is True
        assert shown.of("exit")[0]["exit_code"] == 0
        metrics = {metric["name"]: metric for metric in shown.of("metric")}
        assert {metric["step_metric"] for metric in metrics.values()} == {"epoch"}
        assert metrics["test_accuracy"]["summary"] == {"last": True, "max": True}
        assert metrics["train_loss"]["summary"] == {"last": True, "min": True}
        rows = store.read_history(directory)
        assert shown.summary["test_accuracy"]["max"] == max(row["test_accuracy"] for row in rows)


def test_spectra_and_a_figure_come_at_the_end_and_weights_do_not(results: Path) -> None:
    for directory, (folder,) in sessions(results, "sweep"):
        shown, spectra = Shown(folder), store.read(directory).spectra
        assert spectra is not None
        for layer, rows in spectra.groupby("layer"):
            assert sum(shown.last[f"spectrum/{layer}.values"]) == len(rows)
        picture = folder / "files" / shown.last["figures/run.path"]
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert shown.of("artifact") == []


def test_a_killed_run_resumes_and_ends_with_its_whole_history(results: Path) -> None:
    """Each session shows the history from its first row, measurements before the kill included."""
    ((directory, folders),) = sessions(results, "killed")
    assert [(folder / "closed").read_text().strip() for folder in folders] == ["stopped", "finished"]
    check_equal(directory, folders[-1])
    whole = [row["test_loss"] for row in store.read_history(directory)]
    shown = Shown(folders[0])
    losses = [row["test_loss"] for row in shown.rows]
    assert len(whole) > len(losses) >= 1  # the kill may come before a row is announced
    assert losses == whole[: len(losses)]
    assert shown.of("exit")[0]["exit_code"] == 1


def test_untracked_runs_are_written_before_the_upload(results: Path, tmp_path: Path) -> None:
    runs, wandb = results / "runs/sweep", tmp_path / "wandb"
    missing = sync.without_mirror(runs, wandb)
    assert missing == store.run_directories(runs)
    assert sync.without_mirror(runs, results / "wandb") == []
    lines: list[str] = []
    sync.write_offline(missing[:1], tmp_path, lines.append)
    assert lines == []
    check_equal(missing[0], sync.closed_sessions(wandb)[missing[0].name][0])
    assert sync.without_mirror(runs, wandb) == missing[1:]


def test_an_older_record_names_its_experiment_grid(results: Path, tmp_path: Path) -> None:
    recorded = store.run_directories(results / "runs/sweep")[0]
    directory = Path(shutil.copytree(recorded, tmp_path / "runs/sweep" / recorded.name))
    config = yaml.safe_load((directory / store.CONFIG).read_text())
    (directory / store.CONFIG).write_text(yaml.safe_dump(config | {"grid": config.pop("experiment")["name"]}))
    sync.write_offline([directory], tmp_path, lambda line: None)
    shown = Shown(sync.closed_sessions(tmp_path / "wandb")[directory.name][0])
    assert shown.run["tags"] == ["sweep"]
    assert shown.run["config"]["update"]["experiment"] == {"name": "sweep"}


class FakeRun:
    """Stands for an open run of W&B."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.metrics: list[str] = []

    def define_metric(self, name: str, **options: Any) -> None:
        self.metrics.append(name)

    def log(self, values: dict[str, float], step: int, commit: bool) -> None:
        assert commit  # else the newest row would appear only with the next
        self.rows.append((step, values))


def test_only_valid_rows_are_logged_once_each_and_without_gaps(tmp_path: Path) -> None:
    """history.csv may have later rows of a killed session; an empty cell is no number."""
    (tmp_path / store.HISTORY_CSV).write_text("epoch,step,penalty\n1,10,\n2,20,0.5\n3,30,0.25\n")
    run = object.__new__(WandbRun)
    run.directory, run.run, run.logged, run.last_step = tmp_path, FakeRun(), 0, -1
    run.log(1)
    assert run.run.rows == [(10, {"epoch": 1.0, "step": 10.0})]
    run.log(1)
    run.log(5)
    assert [step for step, _ in run.run.rows] == [10, 20, 30]
    assert run.run.rows[2][1] == {"epoch": 3.0, "step": 30.0, "penalty": 0.25}
    assert (run.logged, run.last_step, run.run.metrics) == (3, 30, ["step", "penalty"])


def core_of(parent: int) -> int | None:
    """The process id of wandb-core below `parent`."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, rest = stat.read_text().split("(", 1)[1].rsplit(")", 1)
        except OSError:
            continue
        if name.startswith("wandb-core") and rest.split()[1] == str(parent):
            return int(stat.parent.name)
    return None


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds W&B's process in /proc")
def test_the_death_of_the_service_is_one_line(results: Path, tmp_path: Path) -> None:
    directory = store.run_directories(results / "runs/sweep")[0]
    mirror = Mirror()
    assert mirror.send(open_message(directory, 1, "offline", tmp_path, TrackConfig()))
    service = wait_for(lambda: core_of(mirror.child.pid))
    wait_for(lambda: list(tmp_path.glob("wandb/offline-run-*/*.wandb")))
    os.kill(service, signal.SIGKILL)
    mirror.send({"do": "close", "rows": 2, "finished": True})
    assert mirror.child.wait(PATIENCE) == 1
    assert ["tracking of" in line and directory.name in line for line in mirror.notices()] == [True]
    assert not list(tmp_path.glob("wandb/*/closed"))


def test_a_full_disk_is_one_line(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limited = ("bash", "-c", f"ulimit -f 8; exec {' '.join(Mirror.COMMAND)}")  # KiB: writing more fails
    monkeypatch.setattr(Mirror, "COMMAND", limited)
    mirror = Mirror()
    mirror.send(open_message(store.run_directories(results / "runs/sweep")[0], 2, "offline", tmp_path, TrackConfig()))
    mirror.send({"do": "close", "rows": 2, "finished": True})
    assert mirror.child.wait(PATIENCE) == 1
    assert ["tracking of" in line for line in mirror.notices()] == [True]
    assert not list(tmp_path.glob("wandb/*/closed"))


def test_offline_where_no_server_answers_and_weights_on_request(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # no server there
    directory = store.run_directories(results / "runs/sweep")[0]
    mirror = Mirror()
    mirror.send(open_message(directory, 2, "online", tmp_path, TrackConfig(artifacts=True)))
    mirror.send({"do": "close", "rows": 2, "finished": True})
    assert mirror.close(PATIENCE)
    assert ["cannot be reached" in line and "offline instead" in line for line in mirror.notices()] == [True]
    shown = check_equal(directory, sync.closed_sessions(tmp_path / "wandb")[directory.name][0])
    assert [artifact["name"] for artifact in shown.of("artifact")] == [f"{directory.name}-weights"]
