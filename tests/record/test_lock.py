"""The lock of a run directory, with real processes."""

import dataclasses
import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import ROOT

from sns.common.errors import UserError
from sns.record import lock
from sns.record.lock import STALE, RunLock, held, holder, myself

WORKER = """
import errno, fcntl, os, sys, time
from pathlib import Path
from sns.common.errors import UserError
from sns.record.lock import RunLock

def refuse(*_):
    raise OSError(errno.ENOLCK, "no locks here")

def no_link(*_):
    raise OSError(errno.EPERM, "no links here")

if "noflock" in sys.argv[2]:
    fcntl.flock = refuse
if "nolink" in sys.argv[2]:
    os.link = no_link
for line in sys.stdin:  # one round: a folder and the moment to start
    folder, moment = line.split()
    while time.time() < float(moment):
        pass
    claimed = RunLock(Path(folder))
    try:
        claimed.__enter__()
        print("won", flush=True)
    except UserError as error:
        print("lost" if "being trained by" in str(error) else error, flush=True)
    if sys.argv[1] == "rounds":
        sys.stdin.readline()  # held until everyone has tried
        claimed.__exit__(None, None, None) if hasattr(claimed, "claim") else None
"""


@pytest.fixture
def worker() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """`worker("rounds" | "hold", "noflock")`: a process that locks folders named on its stdin."""
    started: list[subprocess.Popen[str]] = []

    def start(what: str = "hold", without: str = "-") -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER, what, without],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def send(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


Worker = Callable[..., subprocess.Popen[str]]


@pytest.mark.parametrize("without", ["-", "noflock", "noflock,nolink"])
def test_of_processes_that_start_at_once_exactly_one_wins(worker: Worker, tmp_path: Path, without: str) -> None:
    """In rounds with a new folder, and with one whose owner is dead."""
    processes = [worker("rounds", without) for _ in range(3)]
    dead = dataclasses.replace(myself(False), began="1")
    for k in range(40):
        folder = tmp_path / str(k)
        folder.mkdir()
        if k % 2:
            (folder / ".claim.7").write_text(json.dumps(dataclasses.asdict(dead)))
        moment = time.time() + 0.01
        for process in processes:
            send(process, f"{folder} {moment}")
        assert sorted(answer(process) for process in processes) == ["lost", "lost", "won"], k
        for process in processes:
            send(process, "next")


@pytest.mark.parametrize("without", ["-", "noflock"])
def test_the_claim_of_a_killed_process_is_taken_over_at_once(worker: Worker, tmp_path: Path, without: str) -> None:
    owner = worker("hold", without)
    send(owner, f"{tmp_path} 0")
    assert answer(owner) == "won"
    assert held(tmp_path)
    with pytest.raises(UserError, match=f"being trained by .*process {owner.pid} on "), RunLock(tmp_path):
        pass
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    assert not held(tmp_path)
    with RunLock(tmp_path):
        assert held(tmp_path)
    assert not held(tmp_path)


def test_a_process_that_is_dead_but_not_yet_waited_for_holds_nothing(worker: Worker, tmp_path: Path) -> None:
    owner = worker()
    send(owner, f"{tmp_path} 0")
    assert answer(owner) == "won"
    os.kill(owner.pid, signal.SIGKILL)
    while Path(f"/proc/{owner.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.001)
    assert not held(tmp_path)


def claim_of_another_machine(folder: Path, age: float, **changes: object) -> Path:
    owner = dataclasses.replace(myself(True), host="node7", kernel="another boot", job="4242")
    file = folder / ".claim.3"
    file.write_text(json.dumps(dataclasses.asdict(owner) | changes))
    touched = time.time() - age
    os.utime(file, (touched, touched))
    return file


def test_on_another_machine_the_age_of_the_claim_decides(tmp_path: Path) -> None:
    claim_of_another_machine(tmp_path, STALE - 60)
    assert held(tmp_path)
    with pytest.raises(UserError, match=r"on node7 \(job 4242\): wait for it or stop it"), RunLock(tmp_path):
        pass
    claim_of_another_machine(tmp_path, STALE + 60)
    assert not held(tmp_path)
    with RunLock(tmp_path) as taken:
        assert taken.claim.name == ".claim.4"
        owner = holder(tmp_path)
        assert owner is not None
        assert owner.pid == os.getpid()


def test_a_released_claim_of_another_machine_is_free_at_once(tmp_path: Path) -> None:
    claim_of_another_machine(tmp_path, 0, released=True)
    with RunLock(tmp_path):
        pass


def test_the_same_process_id_with_another_start_time_is_another_process(tmp_path: Path) -> None:
    owner = dataclasses.replace(myself(False), began="12")
    (tmp_path / ".claim.1").write_text(json.dumps(dataclasses.asdict(owner)))
    assert not held(tmp_path)


@pytest.mark.parametrize("content", ["", "{", '{"pid": 1}', "[]"])
def test_an_unreadable_claim_holds_only_while_it_may_be_being_written(tmp_path: Path, content: str) -> None:
    file = tmp_path / ".claim.1"
    file.write_text(content)
    assert held(tmp_path)
    os.utime(file, (time.time() - 60, time.time() - 60))
    assert not held(tmp_path)
    with RunLock(tmp_path):
        pass


def test_the_owner_touches_its_claim_and_notices_a_takeover(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with RunLock(tmp_path) as mine:
        os.utime(mine.claim, (1, 1))
        mine.touch()
        assert time.time() - mine.claim.stat().st_mtime < 60
        mine.check()
        claim_of_another_machine(tmp_path, 0)
        monkeypatch.setattr(mine, "_last", time.monotonic() - STALE)  # it was stopped meanwhile
        with pytest.raises(UserError, match=r"taken over by process \d+ on node7 .* this one ends here"):
            mine.check()
    assert held(tmp_path), "the other one's claim stays"


def test_the_claim_is_touched_repeatedly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "TOUCH_INTERVAL", 0.01)
    with RunLock(tmp_path) as mine:
        os.utime(mine.claim, (1, 1))
        limit = time.monotonic() + 30
        while mine.claim.stat().st_mtime < 2 and time.monotonic() < limit:
            time.sleep(0.005)
        assert mine.claim.stat().st_mtime > 2


def test_a_forked_process_releases_nothing(tmp_path: Path) -> None:
    with RunLock(tmp_path) as mine:
        child = os.fork()
        if child == 0:
            mine.__exit__(None, None, None)
            os._exit(0)
        os.waitpid(child, 0)
        assert held(tmp_path)
        with pytest.raises(UserError), RunLock(tmp_path):
            pass


def test_where_nothing_locks_the_claim_alone_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with RunLock(tmp_path), pytest.raises(UserError, match="being trained by"), RunLock(tmp_path):
        pass
    with RunLock(tmp_path):
        pass


def test_few_files_stay_however_often_a_run_is_resumed(tmp_path: Path) -> None:
    for _ in range(5):
        with RunLock(tmp_path):
            pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".claim.4", ".claim.5", ".lock"]


def test_asking_who_holds_a_folder_needs_no_torch() -> None:
    code = "import sys; from sns.record.lock import held; sys.exit('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False
    )
    assert done.returncode == 0


def test_a_folder_that_does_not_exist_is_not_held(tmp_path: Path) -> None:
    assert not held(tmp_path / "none")
