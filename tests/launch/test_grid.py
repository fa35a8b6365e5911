"""A sweep judged by its records: what is launched, what is left alone, what is tried again, and the
exit code."""

import contextlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from conftest import TINY, compose_tree

from sns.common.errors import UserError
from sns.config.schema import Config
from sns.launch import attempt as attempt_module
from sns.launch import manifest, slurm, status
from sns.launch.attempt import Fault, attempt
from sns.launch.grid import Cell, Grid
from sns.record import attempts, store
from sns.record.lock import RunLock
from sns.train.configure import configure
from sns.train.run import run
from sns.train.stop import Interrupted

FAST = ("measure.hessian=false", "measure.spectra=false", "train.epochs=1")


@pytest.fixture
def cells(tmp_path: Path) -> list[Cell]:
    """Three cells that train in a second, in tmp_path/results."""
    found = []
    for seed in range(3):
        overrides = (*TINY, *FAST, f"seed={seed}", f"results={tmp_path}")
        found.append(Cell(overrides, configure(compose_tree(*overrides))))
    return found


class Recorder:
    """Launches in this process, and remembers what."""

    def __init__(self, act: Callable[[Config], object] = lambda config: attempt(config, "", counted=True)) -> None:
        self.act, self.rounds = act, list[list[int]]()

    def __call__(self, cells: Sequence[Cell]) -> None:
        self.rounds.append([cell.config.seed for cell in cells])
        for cell in cells:
            with contextlib.suppress(UserError, Fault):
                self.act(cell.config)


def folder(cells: list[Cell]) -> Path:
    return cells[0].config.directory.parent


def test_the_manifest_stands_before_anything_is_launched(cells: list[Cell]) -> None:
    def look(config: Config) -> None:
        content = json.loads((folder(cells) / manifest.FILE).read_text())
        assert list(content["runs"]) == [cell.config.run_id for cell in cells]
        entry = content["runs"][config.run_id]
        assert entry["overrides"][-2:] == [f"seed={config.seed}", f"results={config.results}"]
        assert config.run_id.endswith(entry["hash"])
        launch = content["launches"][entry["launch"]]
        assert {"commit", "dirty", "packages", "python", "command"} <= launch.keys()
        assert {line.state for line in status.lines(folder(cells))} == {"queued"}

    assert Grid(cells, ["train.py"]).run(Recorder(look)) == 75  # nothing was trained


def test_finished_and_diverged_runs_are_not_launched_again(cells: list[Cell]) -> None:
    run(cells[0].config)
    run(cells[1].config)
    result = json.loads((cells[1].config.directory / store.RESULT).read_text())
    result |= {"status": "diverged", "reason": "the loss was not finite"}
    (cells[1].config.directory / store.RESULT).write_text(json.dumps(result))
    launcher = Recorder()
    assert Grid(cells, []).run(launcher) == 0
    assert launcher.rounds == [[2]]
    again = Recorder()
    before = (folder(cells) / manifest.FILE).read_bytes()
    assert Grid(cells, []).run(again) == 0
    assert again.rounds == []
    assert (folder(cells) / manifest.FILE).read_bytes() == before
    states = {line.state: line.note for line in status.lines(folder(cells))}
    assert states.keys() == {"done", "diverged"}
    assert states["diverged"] == "the loss was not finite"


def test_a_run_under_way_elsewhere_is_left_alone(cells: list[Cell]) -> None:
    directory = cells[1].config.directory
    directory.mkdir(parents=True)
    launcher = Recorder()
    with RunLock(directory):
        assert Grid(cells, []).run(launcher) == 75
        assert [line.state for line in status.lines(folder(cells))].count("running") == 1
    assert launcher.rounds == [[0, 2]]


def test_a_failing_run_is_tried_again_and_does_not_stop_the_others(
    cells: list[Cell], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(config: Config, command: str) -> object:
        if config.seed == 1:
            raise ZeroDivisionError("nothing to divide by")
        return run(config, command)

    monkeypatch.setattr(attempt_module, "run", fails)
    launcher = Recorder()
    assert Grid(cells, []).run(launcher) == 1
    assert launcher.rounds == [[0, 1, 2], [1], [1]]
    said = capsys.readouterr()
    assert "nothing to divide by" in said.err
    assert "3 runs: 2 done, 1 failed" in said.out
    line = next(line for line in status.lines(folder(cells)) if line.state == "failed")
    assert "nothing to divide by" in line.note
    quiet = Recorder()
    assert Grid(cells, []).run(quiet) == 1
    assert quiet.rounds == []


def test_an_error_the_user_can_mend_is_told_once_and_tried_by_the_next_launch(
    cells: list[Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(config: Config, command: str) -> object:
        raise UserError("no such archive")

    monkeypatch.setattr(attempt_module, "run", refuses)
    launcher = Recorder()
    assert Grid(cells[:1], []).run(launcher) == 1
    assert launcher.rounds == [[0]]
    assert status.lines(folder(cells))[0].note == "no such archive"
    monkeypatch.undo()
    assert Grid(cells[:1], []).run(Recorder()) == 0


def test_a_stop_ends_the_rounds_and_is_resumable(cells: list[Cell]) -> None:
    def stopped(config: Config) -> None:
        raise Interrupted("asked to stop")

    launcher = Recorder(stopped)
    assert Grid(cells, []).run(launcher) == 75
    assert launcher.rounds == [[0, 1, 2]]


def test_a_process_that_dies_again_and_again_ends_as_a_failed_record(cells: list[Cell]) -> None:
    def dies(config: Config) -> None:
        state = attempts.begin(config.directory)
        state.pid = 2**22 + 1  # of no process
        attempts.save(config.directory, state)

    launcher = Recorder(dies)
    assert Grid(cells[:1], []).run(launcher) == 1
    assert launcher.rounds == [[0]] * 3  # launch.retries=2
    result = store.read(cells[0].config.directory).result
    assert result.status == "failed"
    assert result.reason is not None
    assert "died without a word" in result.reason


def test_runs_that_slurm_still_has_are_not_submitted_again(cells: list[Cell], monkeypatch: pytest.MonkeyPatch) -> None:
    place = folder(cells) / slurm.FOLDER / "launch"
    place.mkdir(parents=True)
    (place / "job").write_text("12")
    (place / "tasks").write_text("".join(f"{cell.config.run_id} python train.py\n" for cell in cells))
    monkeypatch.setattr(slurm, "active", lambda ask: {"12_0", "12_2", "13"})
    launcher = Recorder()
    assert Grid(cells, []).run(launcher) == 75
    assert launcher.rounds == [[1]]
    where = [line.where for line in status.lines(folder(cells)) if line.state == "queued"]
    assert where == ["Slurm 12_0", "Slurm 12_2"]


def test_a_damaged_manifest_is_told(cells: list[Cell]) -> None:
    folder(cells).mkdir(parents=True)
    (folder(cells) / manifest.FILE).write_text("{")
    with pytest.raises(UserError, match="damaged"):
        Grid(cells, []).run(Recorder())


def test_a_second_launch_adds_to_the_manifest(cells: list[Cell]) -> None:
    Grid(cells[:2], ["first"]).run(Recorder(lambda config: None))
    Grid(cells[1:], ["second"]).run(Recorder(lambda config: None))
    content = manifest.read(folder(cells))
    assert [entry["launch"] for entry in content["runs"].values()] == [0, 1, 1]
    assert [launch["command"] for launch in content["launches"]] == ["first", "second"]
