"""The attempts at a run: deaths, refusals, stops and failures are distinguished and counted."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sns.common.errors import UserError
from sns.config.schema import Config
from sns.launch import attempt as module
from sns.launch.attempt import Fault, attempt
from sns.record import attempts, store
from sns.record.attempts import Attempts
from sns.record.lock import RunLock
from sns.train.stop import Interrupted

Make = Callable[..., Config]
FAST = ("measure.hessian=false", "measure.spectra=false")


def broken(*arguments: object) -> None:
    raise ValueError("it broke\nhere")


def test_a_run_that_always_fails_ends_as_a_failed_record(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(*FAST, "launch.retries=1")
    monkeypatch.setattr(module, "training", broken)
    with pytest.raises(Fault, match="ValueError: it broke") as first:
        attempt(config, "", in_sweep=True)
    assert first.value.again
    assert not store.is_finished(config.directory)
    with pytest.raises(Fault) as second:
        attempt(config, "", in_sweep=True)
    assert not second.value.again
    result = store.read(config.directory).result
    assert result.status == "failed"
    assert result.reason is not None
    assert "failed 2 times" in result.reason
    assert "it broke" in result.reason
    monkeypatch.undo()
    assert attempt(config, "", in_sweep=True).status == "failed"  # a sweep does not try it again
    assert attempt(tiny(*FAST, "launch.retries=2"), "", in_sweep=True).status == "ok"  # unless more retries are given


def test_a_run_that_the_user_starts_alone_is_always_tried(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(*FAST, "launch.retries=0")
    monkeypatch.setattr(module, "training", broken)
    with pytest.raises(Fault):
        attempt(config, "", in_sweep=True)
    assert store.read(config.directory).result.status == "failed"
    monkeypatch.undo()
    assert attempt(config, "", in_sweep=False).status == "ok"


def test_a_new_checkpoint_between_two_failures_restarts_the_count(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny("launch.retries=1")
    monkeypatch.setattr(module, "training", broken)
    for age in (1, 2, 3):
        with pytest.raises(Fault) as fault:
            attempt(config, "", in_sweep=True)
        assert fault.value.again
        (config.directory / "checkpoint.pt").touch()
        os.utime(config.directory / "checkpoint.pt", (age, age))
    for again in (True, False):
        with pytest.raises(Fault) as fault:
            attempt(config, "", in_sweep=True)
        assert fault.value.again == again


def test_refusals_and_stops_are_not_failures(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny("launch.retries=0")
    for error, state in ((UserError("no such file"), "refused"), (Interrupted("stopped"), "stopped")):

        def ends(*arguments: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(module, "training", ends)
        with pytest.raises(type(error)):
            attempt(config, "", in_sweep=True)
        assert attempts.load(config.directory).state == state
    assert attempts.load(config.directory).failures == 0
    assert attempts.load(config.directory).begun == 2
    assert not store.is_finished(config.directory)


def test_a_killed_process_is_counted_once_by_the_next_launch(tmp_path: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from sns.record import attempts
attempts.begin(Path({str(tmp_path)!r}))
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL
    assert attempts.load(tmp_path).state == "running"
    state = attempts.settle(tmp_path)
    assert (state.state, state.failures) == ("dead", 1)
    assert attempts.settle(tmp_path).failures == 1  # once


def test_a_run_that_another_process_trains_is_not_touched(tiny: Make) -> None:
    config = tiny()
    config.directory.mkdir(parents=True)
    attempts.begin(config.directory)
    with RunLock(config.directory):
        before = (config.directory / attempts.FILE).read_bytes()
        assert attempts.settle(config.directory).state == "running"
        with pytest.raises(UserError, match="is being trained"):
            attempt(config, "", in_sweep=True)
        assert (config.directory / attempts.FILE).read_bytes() == before


def test_a_run_that_started_elsewhere_a_moment_ago_is_not_dead(tmp_path: Path) -> None:
    """A shared file system may show the lock late."""
    attempts.save(tmp_path, Attempts("running", begun=1, host="another", pid=1, started=time.time() - 30))
    assert attempts.settle(tmp_path).state == "running"
    attempts.save(tmp_path, Attempts("running", begun=1, host="another", pid=1, started=time.time() - 300))
    assert attempts.settle(tmp_path).state == "dead"


@pytest.mark.parametrize(
    ("content", "state"),
    [
        ("{", "to do"),
        ("[]", "to do"),
        ('{"state": "open", "begun": 1}', "running"),
        ('{"state": "stopped", "begun": 1, "newer": 3}', "stopped"),
    ],
)
def test_a_damaged_an_older_or_a_newer_file_is_no_error(tmp_path: Path, content: str, state: str) -> None:
    (tmp_path / attempts.FILE).write_text(content)
    assert (attempts.load(tmp_path).begun, attempts.load(tmp_path).state) == (1 if "begun" in content else 0, state)
    attempts.begin(tmp_path)
    assert json.loads((tmp_path / attempts.FILE).read_text())["state"] == "running"
