"""Training on a GPU: its branch of the code, on a stand-in (tests/stand_in.py).

test_modes.py compares real captured updates with eager ones, on a GPU.
"""

import gc
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from conftest import ROOT, TINY
from stand_in import StandIn, environment
from torch import Tensor
from updates import AUGMENT, METHODS, SPLIT, Make, same, small, state, trained

import sns.train.run as running
from sns.common import accelerator
from sns.config.schema import Config
from sns.record import store
from sns.train import checkpoint
from sns.train.capture import AHEAD, WARM_UP, Replay, RunAhead
from sns.train.device import choose_device
from sns.train.run import run
from sns.train.session import Session, start
from sns.train.stop import Interrupted

pytestmark = pytest.mark.usefixtures("stand_in")


def test_every_call_executes_once_and_gradients_are_dropped_before_the_capture() -> None:
    executed, dropped = torch.zeros(()), list[float]()

    def update() -> None:
        executed.add_(1)

    replay = Replay(accelerator.of(StandIn.at(0)), update, lambda: dropped.append(executed.item()), [])
    for calls in range(1, WARM_UP + 5):
        replay()
        assert executed.item() == calls
    assert dropped == [WARM_UP]
    assert StandIn.counts["captures"] == 1


@pytest.mark.parametrize("setting", ["digits_vgg", "digits_nin", "digits_densenet"])
@pytest.mark.parametrize("method", METHODS)
def test_captured_equals_eager(setting: str, method: str) -> None:
    """Ten updates, seven of them replays, with augmentation, dropout and a drop of the rate."""
    options = ("train.device=cuda", f"method={method}", *AUGMENT, *SPLIT, "train.epochs=4")
    eager, captured = (trained(small(setting, *options, f"train.mode={name}"), 10) for name in ("eager", "auto"))
    assert (eager.mode, captured.mode) == ("eager", "graph")
    assert StandIn.counts["replays"] == 7
    assert same(state(eager), state(captured))


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_captured_equals_eager_with_other_optimizers(tiny: Make, optimizer: str) -> None:
    options = ("train.device=cuda", f"optim={optimizer}", "optim.drops=[0.3]")
    eager, captured = (trained(tiny(*options, f"train.mode={name}"), 10) for name in ("eager", "graph"))
    assert captured.mode == "graph"
    assert same(eager.task.model.state_dict(), captured.task.model.state_dict())


def test_what_cannot_be_captured_runs_eagerly(tiny: Make) -> None:
    session = trained(tiny("train.device=cuda", "optim=muon"), 4)
    assert session.mode == "eager"
    assert any("cannot be captured" in note for note in session.notes)


def test_precision_of_the_passes_and_of_the_penalty(tiny: Make) -> None:
    """Under bf16 the spectral penalty is the same in a graph and without."""
    options = ("train.device=cuda", "method=spectral", "train.precision=bf16")
    eager, captured = (trained(tiny(*options, f"train.mode={name}"), 6) for name in ("eager", "graph"))
    assert same(state(eager), state(captured))


def weights(config: Config) -> dict[str, Tensor]:
    state = checkpoint.load(config.directory)
    assert state is not None
    return {**state["task"]["model"], **state["task"]["method"]}


def history(config: Config) -> pd.DataFrame:
    return store.read(config.directory).history.drop(columns=["train_seconds", "measure_seconds"])


def whole_run(tiny: Make, tmp_path: Path, *options: str) -> Config:
    config = tiny("train.device=cuda", *options, f"results={tmp_path}")
    run(config)
    return config


@pytest.mark.parametrize("method", METHODS)
def test_a_run_stops_and_resumes(tiny: Make, tmp_path: Path, method: str) -> None:
    """Stopped every five updates, in warm-up and among replays, a run equals one without a stop."""
    whole = whole_run(tiny, tmp_path / "whole", f"method={method}", *AUGMENT)
    result = store.read(whole.directory).result
    assert (result.environment["device_type"], result.environment["device"]) == ("cuda", "stand-in")
    assert (result.environment["mode"], result.memory["peak_bytes"]) == ("graph", 1e9)
    parts = tiny(
        "train.device=cuda", f"method={method}", *AUGMENT, f"results={tmp_path / 'parts'}", "train.stop_after=5"
    )
    for _ in range(2):
        with pytest.raises(Interrupted):
            run(parts)
    run(parts)
    assert history(whole).equals(history(parts))
    assert same(weights(whole), weights(parts))


def test_a_run_chooses_a_device_with_an_index(tiny: Make, tmp_path: Path) -> None:
    whole_run(tiny, tmp_path, "train.device=cuda:1")
    assert StandIn.selected == 1


def test_the_host_is_at_most_two_updates_ahead(tiny: Make, tmp_path: Path) -> None:
    """Else a signal, the time limit and the progress would be those of a host that is far ahead."""
    config = whole_run(tiny, tmp_path, "train.epochs=4", "measure.every=4")
    assert StandIn.counts["replays"] == store.read(config.directory).result.steps - WARM_UP
    assert StandIn.furthest == AHEAD + 1  # while an update is being issued


def test_on_the_cpu_nothing_is_waited_for() -> None:
    accelerator.use(None)
    ahead = RunAhead(accelerator.of(torch.device("cpu")))
    for _ in range(5):
        ahead.mark()


def test_kernels_are_searched_for_in_updates_only(tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search takes seconds for each new shape, and measuring has many."""
    seen: dict[str, set[bool]] = {"build": set(), "update": set(), "measure": set(), "finish": set()}

    def noting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*arguments: Any, **options: Any) -> Any:
            seen[name].add(torch.backends.cudnn.benchmark)
            return function(*arguments, **options)

        return noted

    def begin(*arguments: Any, **options: Any) -> Session:
        session = start(*arguments, **options)
        session.execute = noting("update", session.execute)
        session.task.evaluate = noting("measure", session.task.evaluate)  # type: ignore[method-assign]
        return session

    monkeypatch.setattr(running, "start", begin)
    monkeypatch.setattr("sns.task.passes.saved_bytes", noting("build", lambda *_: 1000.0))
    monkeypatch.setattr(running, "finish", noting("finish", running.finish))
    whole_run(tiny, tmp_path)
    assert seen == {"build": {False}, "update": {True}, "measure": {False}, "finish": {False}}


def test_a_penalty_that_is_not_joined_is_refused(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The iteration runs on a stream of its own; the passes and the step must wait for it."""
    assert trained(tiny("train.device=cuda", "method=spectral"), 5).mode == "graph"
    streams = StandIn.counts["streams"]
    assert streams == 2  # that of the graph, and that of the iteration
    join = StandIn.join
    monkeypatch.setattr(StandIn, "join", lambda self, stream: self.capturing or join(self, stream))
    with pytest.raises(RuntimeError, match="without an order"):
        trained(tiny("train.device=cuda", "method=spectral"), 5)


def test_garbage_is_not_collected_in_a_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in refuses a capture in which it may be; afterwards it is collected as before."""
    collected: list[bool] = []
    monkeypatch.setattr(gc, "collect", lambda *_: collected.append(gc.isenabled()))
    device = accelerator.of(StandIn.at(0))
    device.capture(lambda: None, device.stream(), [])
    assert collected == [True]
    assert gc.isenabled()


def test_the_processes_of_one_run_share_the_devices() -> None:
    assert [choose_device("auto", local) for local in (0, 1)] == [StandIn.at(0), StandIn.at(1)]


def test_a_sweep_trains_one_run_a_device(tmp_path: Path) -> None:
    """Each process sees the one device of its slot."""
    command = [sys.executable, str(ROOT / "scripts/train.py"), "-m", *TINY, "train.device=cuda", "seed=0,1"]
    command += ["experiment.name=mine", "measure.hessian=false", "measure.spectra=false", "hydra/launcher=local"]
    done = subprocess.run(
        [*command, "launch.per_gpu=1", "train.threads=1", f"results={tmp_path}"],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done
    assert "starts on GPU 0" in done.stdout
    assert "starts on GPU 1" in done.stdout
    ran = [json.loads(path.read_text())["environment"] for path in (tmp_path / "runs/mine").glob("*/result.json")]
    assert [(one["device_type"], one["mode"]) for one in ran] == [("cuda", "graph")] * 2
