"""What a run directory remembers of its attempts: deaths, refusals and failures are told apart and
counted."""

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
    monkeypatch.setattr(module, "run", broken)
    with pytest.raises(Fault, match="ValueError: it broke") as first:
        attempt(config, "", counted=True)
    assert first.value.again
    assert not store.is_finished(config.directory)
    with pytest.raises(Fault) as second:
        attempt(config, "", counted=True)
    assert not second.value.again
    result = store.read(config.directory).result
    assert result.status == "failed"
    assert result.reason is not None
    assert "failed 2 times" in result.reason
    assert "it broke" in result.reason
    monkeypatch.undo()
    assert attempt(config, "", counted=True).status == "failed"  # a grid leaves it
    assert attempt(tiny(*FAST, "launch.retries=2"), "", counted=True).status == "ok"  # unless more retries are given


def test_a_person_who_asks_again_is_obeyed(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(*FAST, "launch.retries=0")
    monkeypatch.setattr(module, "run", broken)
    with pytest.raises(Fault):
        attempt(config, "", counted=True)
    assert store.read(config.directory).result.status == "failed"
    monkeypatch.undo()
    assert attempt(config, "", counted=False).status == "ok"


def test_a_new_checkpoint_between_two_failures_starts_the_count_anew(
    tiny: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny("launch.retries=1")
    monkeypatch.setattr(module, "run", broken)
    for age in (1, 2, 3):
        with pytest.raises(Fault) as fault:
            attempt(config, "", counted=True)
        assert fault.value.again
        (config.directory / "checkpoint.pt").touch()
        os.utime(config.directory / "checkpoint.pt", (age, age))
    for again in (True, False):
        with pytest.raises(Fault) as fault:
            attempt(config, "", counted=True)
        assert fault.value.again == again


def test_refusals_and_stops_are_no_failures(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny("launch.retries=0")
    for error, state in ((UserError("no such file"), "refused"), (Interrupted("stopped"), "stopped")):

        def ends(*arguments: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(module, "run", ends)
        with pytest.raises(type(error)):
            attempt(config, "", counted=True)
        assert attempts.load(config.directory).state == state
    assert attempts.load(config.directory).failures == 0
    assert attempts.load(config.directory).begun == 2
    assert not store.is_finished(config.directory)


def test_a_killed_process_is_counted_by_whoever_looks_next(tmp_path: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from sns.record import attempts
attempts.begin(Path({str(tmp_path)!r}))
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL
    assert attempts.load(tmp_path).state == "open"
    state = attempts.settle(tmp_path)
    assert (state.state, state.failures) == ("died", 1)
    assert attempts.settle(tmp_path).failures == 1  # once


def test_a_run_under_way_is_left_alone(tiny: Make) -> None:
    config = tiny()
    config.directory.mkdir(parents=True)
    attempts.begin(config.directory)
    with RunLock(config.directory):
        before = (config.directory / attempts.FILE).read_bytes()
        assert attempts.settle(config.directory).state == "open"
        with pytest.raises(UserError, match="is being trained"):
            attempt(config, "", counted=True)
        assert (config.directory / attempts.FILE).read_bytes() == before


def test_a_run_begun_elsewhere_a_moment_ago_is_not_taken_for_dead(tmp_path: Path) -> None:
    """A shared file system may show its lock late."""
    attempts.save(tmp_path, Attempts("open", begun=1, host="another", pid=1, started=time.time() - 30))
    assert attempts.settle(tmp_path).state == "open"
    attempts.save(tmp_path, Attempts("open", begun=1, host="another", pid=1, started=time.time() - 300))
    assert attempts.settle(tmp_path).state == "died"


@pytest.mark.parametrize("content", ["{", "[]", '{"state": "open", "begun": 1, "newer": 3}'])
def test_a_damaged_or_newer_file_is_no_fault(tmp_path: Path, content: str) -> None:
    (tmp_path / attempts.FILE).write_text(content)
    assert attempts.load(tmp_path).begun == (1 if "begun" in content else 0)
    attempts.begin(tmp_path)
    assert json.loads((tmp_path / attempts.FILE).read_text())["state"] == "open"
