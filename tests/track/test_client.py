"""The run's side of tracking: the mode, and no fault of a mirror reaches the run."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, TINY

from sns.config.schema import Config, TrackConfig
from sns.record import store
from sns.track import client
from sns.track.client import Mirror, Tracker
from sns.track.credentials import choose_mode
from sns.train.run import run

Make = Callable[..., Config]
IDLE = (sys.executable, "-c", "import time; time.sleep(600)")  # never reads, never ends
DEAD = (sys.executable, "-c", "")
RUDE = (sys.executable, "-c", "import sys; print('no room'); sys.stdin.readline(); sys.exit(1)")


def test_offline_without_credentials_and_online_with_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_mode(TrackConfig()) == ("offline", choose_mode(TrackConfig())[1])
    assert "wandb login" in choose_mode(TrackConfig())[1]
    assert choose_mode(TrackConfig(mode="online"))[0] == "offline"  # but no credentials
    netrc = tmp_path / "netrc"
    netrc.write_text("machine api.wandb.ai login user password " + "a" * 40 + "\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    assert choose_mode(TrackConfig()) == ("online", f"credentials in {netrc}")
    monkeypatch.setenv("WANDB_BASE_URL", "https://elsewhere.example")
    assert choose_mode(TrackConfig())[0] == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    assert choose_mode(TrackConfig()) == ("online", "credentials in WANDB_API_KEY")
    assert choose_mode(TrackConfig(mode="offline"))[0] == "offline"
    assert choose_mode(TrackConfig(mode="disabled"))[0] == "disabled"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert choose_mode(TrackConfig()) == ("disabled", "WANDB_MODE=disabled")
    assert choose_mode(TrackConfig(mode="online"))[0] == "online"


def test_the_mode_is_printed_once_and_disabled_starts_nothing(tiny: Make) -> None:
    lines: list[str] = []
    for seed in (0, 1):
        with Tracker(tiny(f"seed={seed}"), [], lines.append, here=True) as tracker:
            tracker.update()
    assert lines == ["Weights & Biases: disabled (track.mode=disabled)"]
    assert client._mirrors == []


def test_only_the_first_process_tracks(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Mirror, "COMMAND", IDLE)
    lines: list[str] = []
    with Tracker(tiny("track=offline"), [], lines.append, here=False) as tracker:
        tracker.update()
    assert (lines, client._mirrors) == ([], [])


def test_a_mirror_that_never_reads_is_not_waited_for(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipe fills, tracking stops, and the process ends although the mirror does not."""
    monkeypatch.setattr(Mirror, "COMMAND", IDLE)
    lines: list[str] = []
    with Tracker(tiny("track=offline"), [], lines.append, here=True) as tracker:
        child = client._mirrors[-1].child
        for _ in range(10_000):
            tracker.update()
    assert [line for line in lines if "has ended" in line] == lines[1:]
    assert len(lines) == 2
    assert not client._mirrors[-1].close(0.01)
    os.kill(child.pid, signal.SIGKILL)


@pytest.mark.parametrize(("command", "message"), [(DEAD, "has ended"), (RUDE, "no room")])
def test_a_mirror_that_dies_is_reported_once(
    tiny: Make, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], message: str
) -> None:
    monkeypatch.setattr(Mirror, "COMMAND", command)
    lines: list[str] = []
    with Tracker(tiny("track=offline"), [], lines.append, here=True) as tracker:
        client._mirrors[-1].child.wait()
        for _ in range(3):
            tracker.update()
    assert len(lines) == 2
    assert message in lines[1]


def test_a_mirror_that_cannot_be_started_is_reported(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Mirror, "COMMAND", ("/nonexistent/python",))
    lines: list[str] = []
    with Tracker(tiny("track=offline"), [], lines.append, here=True) as tracker:
        tracker.update()
    assert "cannot be started" in lines[1]


def test_a_new_run_gets_a_new_mirror(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Mirror, "COMMAND", DEAD)
    children = set()
    for seed in (0, 1):
        with Tracker(tiny("track=offline", f"seed={seed}"), [], lambda line: None, here=True):
            children.add(client._mirrors[-1].child)
            client._mirrors[-1].child.wait()
    assert len(children) == 2


def test_runs_trained_in_turns_have_a_mirror_each_which_later_runs_use(
    tiny: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Mirror, "COMMAND", IDLE)

    def tracker(seed: int) -> Tracker:
        return Tracker(tiny("track=offline", f"seed={seed}"), [], lambda line: None, here=True)

    with tracker(0) as first, tracker(1) as second:
        assert first.mirror is not second.mirror
    with tracker(2) as third:
        assert third.mirror is first.mirror
    for mirror in client._mirrors:
        mirror.child.kill()
    assert len(client._mirrors) == 2


def test_a_dead_mirror_does_not_change_the_record(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = tiny()
    run(plain)
    quiet = store.read_history(plain.directory)
    (plain.directory / store.RESULT).unlink()
    for file in plain.directory.glob("checkpoint*"):
        file.unlink()
    monkeypatch.setattr(Mirror, "COMMAND", DEAD)
    run(tiny("track=offline"))  # the same run_id
    assert [row["test_loss"] for row in store.read_history(plain.directory)] == [row["test_loss"] for row in quiet]
    assert "has ended" in (plain.directory / "train.log").read_text()


def test_tracking_is_no_part_of_the_identity(tiny: Make) -> None:
    assert tiny("track=online", "track.project=x", "track.artifacts=true").run_id == tiny().run_id


def test_an_interrupt_is_for_the_run_and_not_for_the_mirror(tmp_path: Path) -> None:
    """The mirror has its own session, and the training process never imports wandb."""
    program = (
        "import sys, os; sys.path.insert(0, 'tests')\n"
        "from conftest import compose_tree\n"
        "from sns.track import client\n"
        "from sns.train.configure import configure\nfrom sns.train.run import run\n"
        f"client.Mirror.COMMAND = {IDLE}\n"
        f"run(configure(compose_tree(*{TINY}, 'track=offline', 'results={tmp_path}')))\n"
        "child = client._mirrors[-1].child.pid\n"
        "print(os.getsid(child) != os.getsid(0), 'wandb' in sys.modules)\n"
        "os.kill(child, 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "True False"
