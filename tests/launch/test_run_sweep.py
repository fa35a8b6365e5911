"""A sweep is judged by its records: what is launched, what is tried again, and the exit code."""

import contextlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from conftest import TINY

from sns.common.errors import UserError
from sns.config.schema import Config
from sns.launch import attempt as attempt_module
from sns.launch import manifest, slurm, status
from sns.launch.attempt import Fault, attempt
from sns.launch.run_sweep import Sweep
from sns.launch.sweep import SweepRun, dry_run
from sns.record import attempts, store
from sns.record.lock import RunLock
from sns.train.run import run, training
from sns.train.stop import Interrupted, StopSignal

FAST = ("measure.hessian=false", "measure.spectra=false", "train.epochs=1")


@pytest.fixture
def runs(tmp_path: Path) -> list[SweepRun]:
    """Three runs that train in a second."""
    return dry_run([*TINY, *FAST, "seed=0,1,2", f"results={tmp_path}"])[0]


class Recorder:
    """Launches in this process, and notes the seeds of every round."""

    def __init__(self, act: Callable[[Config], object] = lambda config: attempt(config, "", in_sweep=True)) -> None:
        self.act, self.rounds = act, list[list[int]]()

    def __call__(self, runs: Sequence[SweepRun]) -> None:
        self.rounds.append([run.config.seed for run in runs])
        for one in runs:
            with contextlib.suppress(UserError, Fault):
                self.act(one.config)


def folder(runs: list[SweepRun]) -> Path:
    return runs[0].config.directory.parent


def test_the_manifest_is_written_before_anything_is_launched(
    runs: list[SweepRun], capsys: pytest.CaptureFixture[str]
) -> None:
    def look(config: Config) -> None:
        content = json.loads((folder(runs) / manifest.FILE).read_text())
        assert list(content["runs"]) == [run.config.run_id for run in runs]
        entry = content["runs"][config.run_id]
        assert entry["overrides"][-2:] == [f"seed={config.seed}", f"results={config.results}"]
        assert config.run_id.endswith(entry["hash"])
        launch = content["launches"][entry["launch"]]
        assert {"commit", "dirty", "packages", "python", "command"} <= launch.keys()
        assert {line.state for line in status.lines(folder(runs))} == {"to do"}

    # No process began a run: the same command would not help.
    assert Sweep(runs, ["train.py"]).run(Recorder(look)) == 1
    assert "3 launched runs did not start" in capsys.readouterr().err


def test_finished_and_diverged_runs_are_not_launched_again(runs: list[SweepRun]) -> None:
    run(runs[0].config)
    run(runs[1].config)
    result = json.loads((runs[1].config.directory / store.RESULT).read_text())
    result |= {"status": "diverged", "reason": "the loss was not finite"}
    (runs[1].config.directory / store.RESULT).write_text(json.dumps(result))
    launcher = Recorder()
    assert Sweep(runs, []).run(launcher) == 0
    assert launcher.rounds == [[2]]
    again = Recorder()
    before = (folder(runs) / manifest.FILE).read_bytes()
    assert Sweep(runs, []).run(again) == 0
    assert again.rounds == []
    assert (folder(runs) / manifest.FILE).read_bytes() == before
    states = {line.state: line.note for line in status.lines(folder(runs))}
    assert states.keys() == {"done", "diverged"}
    assert states["diverged"] == "the loss was not finite"


def test_a_run_that_another_process_trains_is_not_launched(runs: list[SweepRun]) -> None:
    directory = runs[1].config.directory
    directory.mkdir(parents=True)
    launcher = Recorder()
    with RunLock(directory):
        assert Sweep(runs, []).run(launcher) == 75
        assert [line.state for line in status.lines(folder(runs))].count("running") == 1
    assert launcher.rounds == [[0, 2]]


def test_a_failing_run_is_tried_again_and_does_not_stop_the_others(
    runs: list[SweepRun], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(config: Config, command: str, stop: StopSignal) -> object:
        if config.seed == 1:
            raise ZeroDivisionError("nothing to divide by")
        return training(config, command, stop)

    monkeypatch.setattr(attempt_module, "training", fails)
    launcher = Recorder()
    assert Sweep(runs, []).run(launcher) == 1
    assert launcher.rounds == [[0, 1, 2], [1], [1]]
    output = capsys.readouterr()
    assert "nothing to divide by" in output.err
    assert "3 runs: 2 done, 1 failed" in output.out
    line = next(line for line in status.lines(folder(runs)) if line.state == "failed")
    assert "nothing to divide by" in line.note
    quiet = Recorder()
    assert Sweep(runs, []).run(quiet) == 1
    assert quiet.rounds == []


def test_an_error_that_the_user_can_fix_is_tried_again_by_the_next_launch_alone(
    runs: list[SweepRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(config: Config, command: str, stop: StopSignal) -> object:
        raise UserError("no such archive")

    monkeypatch.setattr(attempt_module, "training", refuses)
    launcher = Recorder()
    assert Sweep(runs[:1], []).run(launcher) == 1
    assert launcher.rounds == [[0]]
    line = status.lines(folder(runs))[0]
    assert (line.state, line.note) == ("failed", "no such archive")
    monkeypatch.undo()
    assert Sweep(runs[:1], []).run(Recorder()) == 0


def test_a_stop_ends_the_rounds_and_is_resumable(runs: list[SweepRun]) -> None:
    def stopped(config: Config) -> None:
        raise Interrupted("asked to stop")

    launcher = Recorder(stopped)
    assert Sweep(runs, []).run(launcher) == 75
    assert launcher.rounds == [[0, 1, 2]]


def test_a_process_that_dies_again_and_again_ends_as_a_failed_record(runs: list[SweepRun]) -> None:
    def dies(config: Config) -> None:
        state = attempts.begin(config.directory)
        state.pid = 2**22 + 1  # of no process
        attempts.save(config.directory, state)

    launcher = Recorder(dies)
    assert Sweep(runs[:1], []).run(launcher) == 1
    assert launcher.rounds == [[0]] * 3  # launch.retries=2
    result = store.read(runs[0].config.directory).result
    assert result.status == "failed"
    assert result.reason is not None
    assert "was killed without a message" in result.reason


def test_runs_that_slurm_still_has_are_not_submitted_again(
    runs: list[SweepRun], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = folder(runs) / slurm.FOLDER / "launch"
    place.mkdir(parents=True)
    (place / "job").write_text("12")
    (place / "tasks").write_text("".join(f"{run.config.run_id} python train.py\n" for run in runs))
    monkeypatch.setattr(slurm, "active", lambda ask: {"12_0", "12_2", "13"})
    launcher = Recorder()
    assert Sweep(runs, []).run(launcher) == 75
    assert capsys.readouterr().out.startswith("3 runs: 2 queued, 1 to do; launching 1\n")
    assert launcher.rounds == [[1]]
    where = [line.where for line in status.lines(folder(runs)) if line.state == "queued"]
    assert where == ["Slurm 12_0", "Slurm 12_2"]


def test_a_damaged_manifest_is_an_error(runs: list[SweepRun]) -> None:
    folder(runs).mkdir(parents=True)
    (folder(runs) / manifest.FILE).write_text("{")
    with pytest.raises(UserError, match="damaged"):
        Sweep(runs, []).run(Recorder())


def test_a_second_launch_adds_to_the_manifest(runs: list[SweepRun]) -> None:
    Sweep(runs[:2], ["first"]).run(Recorder(lambda config: None))
    Sweep(runs[1:], ["second"]).run(Recorder(lambda config: None))
    content = manifest.read(folder(runs))
    assert [entry["launch"] for entry in content["runs"].values()] == [0, 1, 1]
    assert [launch["command"] for launch in content["launches"]] == ["first", "second"]


def test_a_record_that_cannot_be_read_is_reported_and_not_launched(
    runs: list[SweepRun], capsys: pytest.CaptureFixture[str]
) -> None:
    runs[0].config.directory.mkdir(parents=True)
    (runs[0].config.directory / store.RESULT).write_text("{")
    launcher = Recorder()
    assert Sweep(runs[:1], []).run(launcher) == 1
    assert launcher.rounds == []
    assert "result.json is damaged" in capsys.readouterr().err
