"""Output is expendable: what cannot be shown ends no command, and its exit code stays true."""

import errno
import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, TINY
from synthetic import write_run

from sns.common.command import CHUNK, PLAIN, SafeOutput, reports_errors, safe_streams
from sns.common.errors import UserError
from sns.config.schema import Config
from sns.train.guard import disk_errors

PYTHON = [sys.executable]
TRAIN = [*PYTHON, str(ROOT / "scripts/train.py"), *TINY, "measure.hessian=false", "measure.spectra=false"]
LINES = "train.progress=lines"


def shell(command: str, *words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """`command` in bash, where "$@" stands for `words`."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command, "bash", *words],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
        timeout=120,
    )


def records(folder: Path) -> int:
    return len(list(folder.rglob("result.json")))


@pytest.mark.parametrize(
    ("where", "unbuffered"),
    [("| head -1", ""), ("2>&1 | true", "1"), (">/dev/full 2>/dev/full", ""), (">&- 2>&- <&-", "1"), ("2>&-", "")],
)
def test_a_run_whose_output_is_lost_trains_to_its_end(tmp_path: Path, where: str, unbuffered: str) -> None:
    done = shell(f'"$@" {where}', *TRAIN, LINES, f"results={tmp_path}", PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert records(tmp_path) == 1
    (log,) = tmp_path.rglob("train.log")
    assert "done: test accuracy" in log.read_text()


@pytest.mark.parametrize("launcher", ["basic", "local"])
def test_a_sweep_whose_output_is_lost_keeps_its_exit_code(tmp_path: Path, launcher: str) -> None:
    words = [*TRAIN, LINES, f"results={tmp_path}", f"hydra/launcher={launcher}", "train.epochs=1", "seed=0,1"]
    done = shell('"$@" 2>&1 | true', *words, "-m")
    assert (done.returncode, records(tmp_path)) == (0, 2)
    done = shell('"$@" 2>&1 | true', *words, "data.subset=100,100000", "-m")
    assert (done.returncode, records(tmp_path)) == (1, 2)


def test_ctrl_c_stops_a_sweep_once_where_the_pipe_ends_first(tmp_path: Path) -> None:
    """Ctrl-C also ends `tee`: what the run prints then goes nowhere."""
    words = [*TRAIN, LINES, f"results={tmp_path}", "train.epochs=100000", "seed=0,1,2", "-m"]
    read, write = os.pipe()
    sweep = subprocess.Popen(words, stdout=write, stderr=write)
    os.close(write)
    while b" step " not in os.read(read, 4096):
        assert sweep.poll() is None
    os.close(read)
    sweep.send_signal(signal.SIGINT)
    assert sweep.wait(60) == 75
    assert len(list(tmp_path.rglob("attempts.json"))) == 1  # seeds 1 and 2 were not begun
    assert len(list(tmp_path.rglob("checkpoint.pt"))) == 1


def test_a_terminal_that_is_gone_stops_a_run_with_a_checkpoint(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    words = [*TRAIN, "train.progress=bar", f"results={tmp_path}", "train.epochs=100000"]
    code = "import os, sys, signal; signal.signal(signal.SIGHUP, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
    run = subprocess.Popen([*PYTHON, "-c", code, *words], stdout=theirs, stderr=theirs)
    os.close(theirs)
    while not list(tmp_path.rglob("history.csv")):
        assert os.read(ours, 4096)
        assert run.poll() is None
    os.close(ours)
    run.send_signal(signal.SIGHUP)
    assert run.wait(60) == 75
    assert len(list(tmp_path.rglob("checkpoint.pt"))) == 1


def test_a_reader_that_does_not_read_holds_up_nothing_for_long() -> None:
    """As `| less` does, and a terminal after Ctrl-S."""
    read, write = os.pipe()
    stream = SafeOutput(write, patience=0.05)
    data = b"x" * (1 << 20)  # more than a pipe holds
    assert stream.write(data) == len(data)
    assert stream.stalled
    while len(os.read(read, CHUNK)) == CHUNK and select.select([read], [], [], 0)[0]:  # the reader is back
        pass
    assert stream.write(b"last\n") == 5
    assert os.read(read, 1 << 16) == b"last\n"
    os.close(read)
    os.close(write)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of each method, under a path that no 8-bit stream can print."""
    folder = tmp_path_factory.mktemp("λ")
    for method in ("vanilla", "decay", "spectral"):
        for seed in (0, 1):
            write_run(folder / "runs" / "demo", method=method, seed=seed)
    return folder


COMMANDS = [
    ["status"],
    ["table1", "--all-cells"],
    ["claims"],
    ["summary"],
    ["scores"],
    ["figures", "figure2"],
    ["report"],
    ["publish"],
    ["verify"],
    ["errata"],
    ["sync", "--dry-run"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: str(command[0]))
@pytest.mark.parametrize("encoding", ["ascii"])
def test_a_stream_without_the_characters_gets_others(results: Path, command: list[str], encoding: str) -> None:
    script = str(ROOT / "scripts" / f"{command[0]}.py")
    words = [sys.executable, script, *command[1:], f"{results}/" if command[0] == "figures" else str(results)]
    done = subprocess.run(words, capture_output=True, check=False, env=os.environ | {"PYTHONIOENCODING": encoding})
    assert b"Traceback" not in done.stderr
    assert done.returncode == (command[0] == "verify")  # whose folder has no pages
    (done.stdout + done.stderr).decode(encoding)


def test_marks_keep_their_meaning_without_their_characters(capsys: pytest.CaptureFixture[str]) -> None:
    safe_streams()  # registers the error handler
    shown = "✓ within ±0.01, ✗ above, ≈, – not judged, α, é, \udcff".encode("ascii", PLAIN).decode("ascii")
    assert shown == "+ within +-0.01, x above, ~, - not judged, alpha, ?, ?"


@pytest.mark.parametrize("command", [["status"], ["table1"], ["publish"]], ids=lambda command: str(command[0]))
def test_a_page_that_nobody_reads_is_no_error_and_a_full_disk_is_one(results: Path, command: list[str]) -> None:
    words = [sys.executable, str(ROOT / "scripts" / f"{command[0]}.py"), str(results)]
    done = shell('"$@" | true', *words)
    assert (done.returncode, [line for line in done.stderr.splitlines() if "not drawn" not in line]) == (0, [])
    done = shell('"$@" >/dev/full', *words)
    assert done.returncode == 1
    assert done.stderr.count("the output could not be written (No space left on device)") == 1
    assert "Traceback" not in done.stderr


def test_ctrl_c_ends_an_analysis_without_a_trace(capfd: pytest.CaptureFixture[str]) -> None:
    @reports_errors
    def main(arguments: list[str] | None = None) -> int:
        raise KeyboardInterrupt

    assert main() == 130
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("number", [errno.EPIPE, errno.ECONNRESET, errno.EAGAIN])
def test_an_error_of_a_pipe_or_the_network_is_not_taken_for_one_of_the_disk(
    tiny: Callable[..., Config], number: int
) -> None:
    with pytest.raises(OSError) as caught, disk_errors(tiny()):  # noqa: PT011  the number is checked
        raise OSError(number, os.strerror(number))
    assert caught.value.errno == number
    with pytest.raises(UserError, match="make room"), disk_errors(tiny()):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
