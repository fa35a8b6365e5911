"""Uploading: which sessions, how often, and the message where it fails."""

import socket
import sys
import threading
from pathlib import Path

import pytest
from synthetic import write_run

from sns.common.errors import UserError
from sns.track import sync

SYNCED = 'import sys, pathlib; pathlib.Path(sys.argv[1], "run.wandb.synced").touch()'


def session(wandb: Path, name: str, state: str | None, synced: bool = False) -> Path:
    folder = wandb / name
    folder.mkdir(parents=True)
    if state is not None:
        (folder / "closed").write_text(state + "\n")
    if synced:
        (folder / "run.wandb.synced").touch()
    return folder


def test_the_newest_whole_session_of_a_run_is_pending(tmp_path: Path) -> None:
    session(tmp_path, "offline-run-20260101_000000-a-b__c", "stopped")
    last = session(tmp_path, "offline-run-20260102_000000-a-b__c", "finished")
    session(tmp_path, "offline-run-20260103_000000-a-b__c", None)  # killed with its mirror
    session(tmp_path, "offline-run-20260101_000000-d", "finished", synced=True)
    session(tmp_path, "run-20260101_000000-e", "finished")  # was online
    running = session(tmp_path, "offline-run-20260101_000000-f", "stopped")
    assert sync.pending(tmp_path) == [last, running]
    sync.upload(last, 60, (sys.executable, "-c", SYNCED))
    assert sync.pending(tmp_path) == [running]


def test_only_finished_runs_without_a_whole_session_are_written_again(tmp_path: Path) -> None:
    runs = tmp_path / "runs/demo"
    done, untracked = (
        write_run(runs, "digits_vgg", method, "small", 0, epochs=1) for method in ("vanilla", "spectral")
    )
    unfinished = write_run(runs, "digits_vgg", "decay", "small", 0, epochs=1)
    (unfinished / "result.json").unlink()
    session(tmp_path / "wandb", f"offline-run-20260101_000000-{done.name}", "finished")
    session(tmp_path / "wandb", f"offline-run-20260101_000000-{untracked.name}", "stopped")
    assert sync.without_mirror(runs, tmp_path / "wandb") == [untracked]


def test_a_failed_upload_names_the_run_and_the_reason(tmp_path: Path) -> None:
    folder = session(tmp_path, "offline-run-20260101_000000-a", "finished")
    with pytest.raises(UserError, match=r"a was not uploaded: permission denied"):
        sync.upload(folder, 60, (sys.executable, "-c", "import sys; sys.exit('error\\npermission denied')"))
    with pytest.raises(UserError, match=r"within 0\.1 seconds; repeat"):
        sync.upload(folder, 0.1, (sys.executable, "-c", "import time; time.sleep(60)"))
    assert sync.pending(tmp_path) == [folder]


def test_missing_credentials_or_network_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="run `wandb login`, or set WANDB_API_KEY"):
        sync.require_server()
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"http://127.0.0.1:9 cannot be reached .*nothing was uploaded"):
        sync.require_server()


def test_a_server_that_accepts_and_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sns.track.credentials.ANSWER", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        held: list[socket.socket] = []
        threading.Thread(target=lambda: held.append(mute.accept()[0]), daemon=True).start()
        monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{mute.getsockname()[1]}")
        with pytest.raises(UserError, match="cannot be reached"):
            sync.require_server()
        for connection in held:
            connection.close()
