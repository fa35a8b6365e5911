"""The state of a run: one name for each content of its directory, and whether it is tried again."""

from pathlib import Path

import pytest
from synthetic import write_run

from sns.record import attempts, store
from sns.record.attempts import Attempts
from sns.record.lock import RunLock
from sns.record.state import STATES, state_of


@pytest.mark.parametrize(
    ("last", "name", "retry", "refused", "pending"),
    [
        (Attempts(), "to do", True, False, True),
        (Attempts("stopped"), "stopped", True, False, True),
        (Attempts("refused", reason="no archive"), "failed", True, True, False),
        (Attempts("failed", failures=2), "failed", True, False, True),
        (Attempts("failed", failures=3), "failed", False, False, False),
        (Attempts("running", failures=1), "dead", True, False, True),  # this death is the second failure
        (Attempts("running", failures=2), "dead", False, False, False),
    ],
)
def test_an_unfinished_run(
    tmp_path: Path, last: Attempts, name: str, retry: bool, refused: bool, pending: bool
) -> None:
    attempts.save(tmp_path, last)
    before = (tmp_path / attempts.FILE).read_bytes()
    state = state_of(tmp_path, retries=2)
    assert (state.name, state.retry, state.refused, state.pending) == (name, retry, refused, pending)
    assert state_of(tmp_path, job="12_0").name == "queued"
    with RunLock(tmp_path):
        assert state_of(tmp_path, job="12_0").name == "running"
    assert (tmp_path / attempts.FILE).read_bytes() == before  # it only reads
    assert state.name in STATES


def test_a_checkpoint_without_a_count_of_attempts_is_a_stopped_run(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").touch()
    assert state_of(tmp_path).name == "stopped"


@pytest.mark.parametrize(("status", "name"), [("ok", "done"), ("diverged", "diverged"), ("failed", "failed")])
def test_a_finished_run(tmp_path: Path, status: str, name: str) -> None:
    directory = write_run(tmp_path, status=status, spectra=False)
    state = state_of(directory, retries=2)
    assert (state.name, state.retry) == (name, name == "failed")  # nothing was counted: the record may be replaced
    assert state.result == store.read_result(directory)
    attempts.save(directory, Attempts("failed", failures=3))
    assert not state_of(directory, retries=2).retry
    assert not state_of(directory).retry


@pytest.mark.parametrize(("file", "text"), [("result.json", "{"), ("result.json", "[]"), ("history.csv", "epoch\n")])
def test_a_record_that_cannot_be_read(tmp_path: Path, file: str, text: str) -> None:
    directory = write_run(tmp_path, spectra=False)
    (directory / file).write_text(text)
    state = state_of(directory, retries=2)
    assert (state.name, state.retry, state.result) == ("failed", False, None)
    assert file in str(state.reason)
