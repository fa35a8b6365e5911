"""Requests to stop, by signals and by the clock."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from types import FrameType

import pytest

from sns.config.schema import Config
from sns.record import store
from sns.train import checkpoint
from sns.train import saver as saving
from sns.train import stop as stop_module
from sns.train.run import run
from sns.train.session import Session
from sns.train.stop import TIME_LIMIT, Deadline, Interrupted, StopSignal, call_launcher_handler

Make = Callable[..., Config]
NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR2")


@pytest.fixture(autouse=True)
def outside_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_END_TIME", raising=False)


@pytest.fixture
def submitit() -> Iterator[list[int]]:
    """A handler of SIGUSR2 that ends the process, as submitit's does. Yields the signals it got."""
    got: list[int] = []

    def handler(number: int, frame: FrameType | None) -> None:
        got.append(number)
        raise SystemExit(0)

    before = signal.signal(signal.SIGUSR2, handler)
    yield got
    signal.signal(signal.SIGUSR2, before)


@pytest.mark.parametrize("name", NAMES)
def test_a_signal_is_noted_and_afterwards_every_handler_is_what_it_was(name: str) -> None:
    before = [signal.getsignal(getattr(signal, each)) for each in NAMES]
    with StopSignal() as stop:
        assert stop.asked() is None
        os.kill(os.getpid(), getattr(signal, name))
        assert stop.asked() == name
    assert [signal.getsignal(getattr(signal, each)) for each in NAMES] == before


def test_a_second_interrupt_interrupts_at_once() -> None:
    with StopSignal():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_forked_process_ignores_signals() -> None:
    """Schedulers signal every process of a job; only the one that trains may save."""
    with StopSignal() as stop:
        child = os.fork()
        if child == 0:
            for name in NAMES:
                os.kill(os.getpid(), getattr(signal, name))
            os._exit(0 if stop.received is None else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert stop.asked() is None


def stopped_by(make: Callable[[], object], config: Config, monkeypatch: pytest.MonkeyPatch) -> Interrupted:
    """The Interrupted of a run in which `make` is called during the third update."""
    import sns.train.run as module

    original = module.advance

    def third(session: Session) -> None:
        original(session)
        if session.step == 3:
            make()

    with monkeypatch.context() as patch:
        patch.setattr(module, "advance", third)
        with pytest.raises(Interrupted, match="stopped at update 3 of 12") as caught:
            run(config)
    state = checkpoint.load(config.directory)
    assert state is not None
    assert state["progress"]["step"] == 3
    return caught.value


@pytest.mark.parametrize("name", NAMES)
def test_a_signal_lets_the_update_end_and_leaves_a_checkpoint(
    tiny: Make, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    number = getattr(signal, name)
    before = signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # no submitit here
    try:
        end = stopped_by(lambda: os.kill(os.getpid(), number), tiny("measure.hessian=false"), monkeypatch)
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert end.cause == name


def test_submitits_handler_is_called_after_the_checkpoint(
    tiny: Make, monkeypatch: pytest.MonkeyPatch, submitit: list[int]
) -> None:
    import sns.train.run as module

    config = tiny("measure.hessian=false")
    seen: list[bool] = []

    def look(cause: str) -> None:
        seen.append(checkpoint.exists(config.directory))
        call_launcher_handler(cause)

    original = module.advance

    def signalled(session: Session) -> None:
        os.kill(os.getpid(), signal.SIGUSR2)
        original(session)

    monkeypatch.setattr(module, "advance", signalled)
    monkeypatch.setattr(stop_module, "call_launcher_handler", look)
    with pytest.raises(SystemExit):
        run(config)
    assert submitit == [signal.SIGUSR2]
    assert seen == [True]


def test_which_causes_call_the_launchers_handler(submitit: list[int]) -> None:
    for cause in ("SIGTERM", "SIGINT", "train.stop_after=3"):
        call_launcher_handler(cause)
    assert submitit == []
    with pytest.raises(SystemExit):
        call_launcher_handler(TIME_LIMIT)
    assert submitit == [signal.SIGUSR2]


def test_the_time_limit_leaves_room_for_the_longest_wait_yet(clock: list[float]) -> None:
    deadline = Deadline(minutes=60)
    for _ in range(5):  # updates of a second, then an evaluation of five minutes
        clock[0] += 1
        assert not deadline.near()
    clock[0] += 300
    assert not deadline.near()
    clock[0] = 1000 + 3600 - 300 - Deadline.MARGIN - 10
    assert not Deadline(minutes=60).near()
    assert not Deadline(minutes=None).near()
    deadline._last = clock[0]
    assert not deadline.near()
    clock[0] += 10
    assert deadline.near()


def test_slurm_says_when_the_job_ends_and_a_wall_clock_that_jumps_changes_nothing(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 5_000_000.0)
    monkeypatch.setenv("SLURM_JOB_END_TIME", "5003600")
    deadline = Deadline(minutes=600)
    for jump in (86400 * 365, -86400 * 365):
        monkeypatch.setattr(time, "time", lambda jump=jump: 5_000_000.0 + jump)
        clock[0] += 60
        assert not deadline.near()
    deadline._last = clock[0] = 1000.0 + 3600 - 60 - 59
    assert deadline.near()


def test_a_run_near_its_time_limit_saves_and_stops(
    tiny: Make, monkeypatch: pytest.MonkeyPatch, submitit: list[int]
) -> None:
    config = tiny("measure.hessian=false", "train.time_limit_minutes=0.0001")
    with pytest.raises(SystemExit):
        run(config)
    assert submitit == [signal.SIGUSR2]
    state = checkpoint.load(config.directory)
    assert state is not None
    assert state["progress"]["step"] == 1, "every session makes some progress, however late it is"


def test_a_wall_clock_that_jumps_changes_nothing_in_a_run(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    saves: list[int] = []
    jumps = iter([1e9, -1e9] * 10_000)
    original = checkpoint.save
    monkeypatch.setattr(checkpoint, "save", lambda *a: (saves.append(a[1]["progress"]["step"]), original(*a)))
    monkeypatch.setattr(saving, "CHEAP_SHARE", 0.0)
    quiet = run(tiny("measure.hessian=false"))
    quiet_saves = list(saves)
    now = time.time()
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: now + next(jumps))
        moved = run(tiny("measure.hessian=false", "experiment.name=moved"))
    assert saves == quiet_saves * 2
    assert moved.timings["train_seconds"] < 1e6
    assert moved.final["test_loss"] == quiet.final["test_loss"]
    assert store.is_finished(tiny("measure.hessian=false", "experiment.name=moved").directory)
