"""Runs that one process trains in turns: each as if it were alone, on a stream of its own."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import TINY
from stand_in import StandIn
from torch import Tensor

import sns.train.run as running
from sns.common import accelerator, memory
from sns.common.errors import UserError
from sns.config.schema import Config
from sns.launch import together
from sns.launch.budget import TimeBudget
from sns.launch.sweep import SweepRun, dry_run
from sns.record import attempts, store
from sns.task.classification import Classification
from sns.train import checkpoint
from sns.train.capture import WARM_UP
from sns.train.progress import Reporter
from sns.train.run import run
from sns.train.session import Session
from sns.train.stop import Interrupted
from sns.train.turns import Place

TIMINGS = ["train_seconds", "measure_seconds"]
SWEEP = (*TINY, "measure.hessian=false", "measure.spectra=false", "launch.per_process=2", "data.flip=true")
METHODS = "method=vanilla,spectral,adversarial"
Runs = list[SweepRun]


def expanded(results: Path, *overrides: str) -> Runs:
    runs, errors = dry_run([*SWEEP, *overrides, f"results={results}"])
    assert errors == []
    return runs


def history(config: Config) -> pd.DataFrame:
    return store.read(config.directory).history.drop(columns=TIMINGS)


def weights(config: Config) -> dict[str, Tensor]:
    state = checkpoint.load(config.directory)
    assert state is not None
    return {**state["task"]["model"], **state["task"]["method"], "dropout": state["dropout"][0]}


def require_equal(alone: Runs, beside: Runs) -> None:
    """The records of both are the same to the bit."""
    for one, other in zip(alone, beside, strict=True):
        a, b = weights(one.config), weights(other.config)
        pd.testing.assert_frame_equal(history(one.config), history(other.config), check_exact=True)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)
        assert store.read(one.config.directory).result.measured == store.read(other.config.directory).result.measured


def states(runs: Runs) -> list[str]:
    return [attempts.load(one.config.directory).state for one in runs]


def in_update(monkeypatch: pytest.MonkeyPatch, act: Callable[[Session], object]) -> None:
    """Calls `act` after every update of every run."""
    original = running.advance

    def advance(session: Session) -> None:
        original(session)
        act(session)

    monkeypatch.setattr(running, "advance", advance)


@pytest.fixture
def alone(tmp_path: Path) -> Runs:
    """Three finished runs with dropout, each trained alone. The last is half as long."""
    runs = expanded(tmp_path / "alone", METHODS)
    for one in runs:
        run(one.config)
    return runs


@pytest.fixture
def beside(tmp_path: Path) -> Runs:
    """The same runs, not begun."""
    return expanded(tmp_path / "beside", METHODS)


def test_runs_in_turns_equal_runs_alone(alone: Runs, beside: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropout draws from torch's one generator. Two begin, the third follows at their end."""
    order: list[str] = []
    in_update(monkeypatch, lambda session: order.append(session.config.method.name))
    outside = torch.get_rng_state()
    together.train(beside, None)
    assert order == ["vanilla", "spectral"] * 12 + ["adversarial"] * 12
    require_equal(alone, beside)
    assert states(beside) == ["finished"] * 3
    assert torch.equal(torch.get_rng_state(), outside)
    for one in beside:
        log = (one.config.directory / "train.log").read_text()
        assert log.count(" done: test") == 1
        assert all(f" {one.config.method.name} " in line for line in log.splitlines())
        environment = store.read(one.config.directory).result.environment
        assert environment["runs_together"] == 2


def test_an_evaluation_between_updates_of_others(alone: Runs, tmp_path: Path) -> None:
    """Runs that evaluate at different updates, and one that ends while the other goes on."""
    long = expanded(tmp_path / "long", "train.epochs=4")
    run(long[0].config)
    for name, later in (("first", 1), ("second", 0)):
        pair = [*expanded(tmp_path / name, "train.epochs=4", "measure.every=1")]
        pair.insert(later, expanded(tmp_path / name, "method=spectral")[0])
        together.train(pair, None)
        require_equal([alone[1], *long], sorted(pair, key=lambda one: one.config.train.epochs))


def test_a_signal_stops_all_runs_with_a_checkpoint_and_they_resume(
    alone: Runs, beside: Runs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        in_update(patch, lambda s: os.kill(os.getpid(), signal.SIGTERM) if s.step == 3 else None)
        with pytest.raises(Interrupted) as caught:
            together.train(beside, None)
    assert caught.value.cause == "SIGTERM"
    assert signal.getsignal(signal.SIGTERM) == before
    assert states(beside) == ["stopped", "stopped", "to do"]
    assert capsys.readouterr().err.count("stopped at update") == 2
    steps = [checkpoint.load(one.config.directory)["progress"]["step"] for one in beside[:2]]  # type: ignore[index]
    assert steps == [3, 2]
    together.train(beside, None)
    require_equal(alone, beside)


@pytest.fixture
def requeued(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """How many checkpoints there were when the launcher's handler was called, which may exit."""
    seen: list[int] = []
    look = lambda cause: seen.append(len(list(tmp_path.rglob("checkpoint.pt"))))  # noqa: E731
    monkeypatch.setattr("sns.train.stop.call_launcher_handler", look)
    return seen


def test_a_time_limit_stops_all_runs_before_the_launchers_handler(tmp_path: Path, requeued: list[int]) -> None:
    limited = expanded(tmp_path, METHODS, "train.time_limit_minutes=0.0001")
    with pytest.raises(Interrupted):
        together.train(limited, None)
    assert requeued == [2]
    assert states(limited) == ["stopped", "stopped", "to do"]


def test_a_second_interrupt_ends_all_at_once_without_a_failure(beside: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    in_update(monkeypatch, lambda s: [os.kill(os.getpid(), signal.SIGINT) for _ in range(2)] if s.step == 3 else None)
    with pytest.raises(KeyboardInterrupt) as caught:
        together.train(beside, None)
    assert caught.tb is not None  # which holds the runs: they end although nothing has dropped them yet
    assert states(beside) == ["stopped", "stopped", "to do"]
    assert not any(attempts.alive(one.config.directory, attempts.load(one.config.directory)) for one in beside)


def test_one_run_that_fails_and_one_that_diverges_do_not_end_the_others(
    alone: Runs, beside: Runs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def spoil(session: Session) -> None:
        if session.step == 3 and session.config.method.name == "spectral":
            raise ZeroDivisionError("nothing to divide by")

    with monkeypatch.context() as patch:
        in_update(patch, spoil)
        diverging = expanded(Path(beside[0].config.results), "method=decay", "method.factor=3", "optim.lr=30")
        together.train([*diverging, *beside], None)
    assert "ZeroDivisionError: nothing to divide by" in capsys.readouterr().err
    assert states([*diverging, *beside]) == ["finished", "finished", "failed", "finished"]
    assert store.read(diverging[0].config.directory).result.status == "diverged"
    together.train(beside, None)
    require_equal(alone, beside)


def test_no_run_begins_that_the_budget_does_not_admit(beside: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Budget(TimeBudget):
        def __init__(self) -> None:
            pass

        def admits(self, run_id: str, own_process: bool) -> bool:
            asked.append(run_id)
            return "spectral" in run_id and not own_process

    together.train(beside, Budget())
    assert asked == [one.config.run_id for one in beside]
    assert states(beside) == ["to do", "finished", "to do"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("train.threads=1,2",), r"one train\.threads, but this sweep has several \(1, 2\)"),
        (("train.device=cpu,auto",), r"one train\.device"),
        (("train.time_limit_minutes=1,2",), r"one train\.time_limit_minutes"),
        (("launch.gpus_per_run=2",), "on one GPU each"),
    ],
)
def test_what_cannot_share_a_process_is_refused(tmp_path: Path, overrides: Sequence[str], message: str) -> None:
    runs = [
        one
        for word in overrides
        for value in word.partition("=")[2].split(",")
        for one in expanded(tmp_path / value, f"{word.partition('=')[0]}={value}")
    ]
    with pytest.raises(UserError, match=message):
        together.train(runs, None)
    assert not list(tmp_path.rglob("config.yaml"))


def test_each_run_has_its_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[tuple[str, bool]] = set()
    in_update(monkeypatch, lambda s: seen.add((s.config.train.precision, torch.backends.cuda.matmul.allow_tf32)))
    together.train(expanded(tmp_path, "train.precision=fp32,tf32"), None)
    assert seen == {("fp32", False), ("tf32", True)}


def test_the_seconds_of_a_run_are_those_of_its_turns(beside: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    now, left = [0.0], list[float]()
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(Reporter, "evaluation", lambda self, row, speed, seconds: left.append(seconds))
    seconds = {"vanilla": 1.0, "spectral": 10.0, "adversarial": 100.0}

    def work(session: Session) -> None:
        now[0] += seconds[session.config.method.name]

    in_update(monkeypatch, work)
    together.train(beside, None)
    timings = [store.read(one.config.directory).result.timings["train_seconds"] for one in beside]
    assert timings == [12.0, 120.0, 1200.0]
    assert left[:2] == [66.0, 66.0]  # six updates of both


def test_a_run_counts_on_its_part_of_the_memory(
    beside: Runs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cpu, seen = torch.device("cpu"), list[int | None]()
    monkeypatch.setattr(memory, "available_host_bytes", lambda: 12_000_000_000)
    original = Classification._sizes

    def sizes(self: Classification, *arguments: object) -> object:
        seen.append(memory.room_of_a_run(cpu))
        if len(seen) == 2:
            raise torch.OutOfMemoryError("no memory")
        return original(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Classification, "_sizes", sizes)
    together.train(beside, None)
    assert seen == [6_000_000_000] * 3
    assert memory.room_of_a_run(cpu) == 12_000_000_000
    assert "does not fit the device's memory beside other runs: lower launch.per_process=2" in capsys.readouterr().err
    assert states(beside) == ["finished", "refused", "finished"]


@pytest.mark.parametrize("method", ["vanilla", "spectral"])
def test_updates_are_issued_on_the_stream_of_each_run(
    stand_in: type[StandIn], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Captured on a stand-in for a GPU: equal to runs alone, each on its own stream to its end."""
    options = ("train.device=cuda", "seed=0,1,2", f"method={method}")
    alone = expanded(tmp_path / "alone", *options)
    for one in alone:
        run(one.config)
    updates = store.read(alone[0].config.directory).result.steps - WARM_UP
    assert stand_in.counts["replays on default"] == 3 * updates
    stand_in.reset()
    streams: dict[int, set[str]] = {}
    generators: dict[int, set[object]] = {}

    def look(session: Session) -> None:
        streams.setdefault(session.config.seed, set()).add(stand_in.current.name)
        generators.setdefault(session.config.seed, set()).add(stand_in.rng)

    in_update(monkeypatch, look)
    beside = expanded(tmp_path / "beside", *options)
    together.train(beside, None)
    require_equal(alone, beside)
    assert streams == {0: {"stream 1"}, 1: {"stream 2"}, 2: {"stream 1"}}
    assert [len(own) for own in generators.values()] == [1, 1, 1]
    assert len(set.union(*generators.values())) == 3
    assert stand_in.counts["captures"] == 3
    assert [stand_in.counts[f"replays on stream {n}"] for n in (1, 2)] == [2 * updates, updates]
    assert store.read(beside[0].config.directory).result.memory["peak_bytes"] is None


def test_a_graph_draws_from_its_own_run(stand_in: type[StandIn]) -> None:
    """Else the masks of one run would depend on the others."""
    device = accelerator.of(stand_in.at(0))
    place: Place[None] = Place(device)
    replay = device.capture(lambda: None, device.stream(), [])
    replay()
    own = device.use_rng(device.own_rng())
    with pytest.raises(RuntimeError, match="not in use"):
        replay()
    device.use_rng(own)
    replay()
    assert place.stream is not None
