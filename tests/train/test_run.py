"""A whole run: its record, repeatability, resumption and ways to end."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from conftest import ROOT, TINY
from state_hash import state_hash
from synthetic import HISTORY
from torch import Tensor

from sns.common.errors import UserError
from sns.config.schema import Config
from sns.method import METHODS, Method, register
from sns.record import store
from sns.train import checkpoint
from sns.train.result import SavedPieces
from sns.train.run import advance, run
from sns.train.session import start
from sns.train.stop import Interrupted

Make = Callable[..., Config]
TIMINGS = ["train_seconds", "measure_seconds"]


def history(config: Config) -> pd.DataFrame:
    return store.read(config.directory).history.drop(columns=TIMINGS)


def weights(config: Config) -> dict[str, Tensor]:
    state = checkpoint.load(config.directory)
    assert state is not None
    return state["task"]["model"]


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("method", ["vanilla", "decay", "adversarial", "spectral"])
def test_record_is_complete_and_consistent(tiny: Make, method: str) -> None:
    config = tiny(f"method={method}", "task.alpha=0.0")
    result = run(config, "the command")
    record = store.read(config.directory)
    assert record.result == result
    assert (result.status, result.method, result.steps, result.command) == ("ok", method, 12, "the command")
    frame = record.history
    assert list(frame.columns) == result.columns == HISTORY
    assert list(frame.step) == [6, 12]
    assert frame.notna().all().all()
    assert (frame.gap - (frame.train_accuracy - frame.test_accuracy)).abs().max() < 1e-12
    assert (frame.penalty > 0).all() == (method in ("decay", "spectral"))
    assert frame.running_train_accuracy.between(0, 1).all()
    assert result.final == dict(frame.iloc[-1])
    assert result.best["test_accuracy"] == frame.test_accuracy.max()
    assert result.measured["gap_at_alpha"] == frame[frame.test_accuracy > 0].gap.min()
    assert record.config["method"]["name"] == method
    layers, spectra = record.layers, record.spectra
    assert layers is not None
    assert spectra is not None
    assert layers.sigma.max() == pytest.approx(frame.sigma_max.iloc[-1], rel=1e-6)
    assert set(layers.layer) == set(spectra.layer)
    assert result.measured["hessian"] is not None
    assert result.measured["hessian"].keys() == {"train", "test"}
    assert result.measured["lipschitz"] is not None
    assert result.measured["lipschitz"]["jacobian_norm_max"] > 0
    assert result.environment["data"]["fingerprint"]
    factor = {"decay": 1e-4, "spectral": 0.01}.get(method)
    assert result.dose["e_folds"] == (
        None if factor is None else pytest.approx(factor * result.dose["learning_rate_sum"] / 0.1)
    )


def test_training_lowers_the_loss(tiny: Make) -> None:
    frame = history_of(
        tiny("train.epochs=15", "data.subset=300", "model.widths=[[8],[16],[16]]", "measure.hessian=false")
    )
    assert frame.train_loss.iloc[-1] < 0.5 * frame.train_loss.iloc[0]
    assert frame.running_train_loss.iloc[-1] < frame.running_train_loss.iloc[0]


def history_of(config: Config) -> pd.DataFrame:
    run(config)
    return history(config)


def test_one_seed_repeats_and_two_differ(tiny: Make, tmp_path: Path) -> None:
    first = tiny("method=spectral")
    again = tiny("method=spectral", f"results={tmp_path / 'again'}")
    other = tiny("method=spectral", "seed=1")
    a, b, c = (history_of(config) for config in (first, again, other))
    pd.testing.assert_frame_equal(a, b, check_exact=True)
    assert same(weights(first), weights(again))
    assert not a.train_loss.equals(c.train_loss)
    assert not same(weights(first), weights(other))


@pytest.mark.parametrize("method", ["spectral", "adversarial"])
@pytest.mark.parametrize("stop", [1, 5])
def test_stopped_every_few_updates_equals_uninterrupted(tiny: Make, tmp_path: Path, method: str, stop: int) -> None:
    options = (f"method={method}", "data.crop_padding=1", "data.flip=true")
    whole = tiny(*options)
    pieces = tiny(*options, f"results={tmp_path / 'pieces'}", f"train.stop_after={stop}")
    assert whole.run_id == pieces.run_id
    run(whole)
    sessions = 1
    while True:
        torch.manual_seed(sessions)  # as other code in the process may seed torch's generator
        try:
            result = run(pieces)
            break
        except Interrupted:
            assert not store.is_finished(pieces.directory)
            sessions += 1
    assert sessions == -(-12 // stop)
    assert result.timings["sessions"] == sessions
    pd.testing.assert_frame_equal(history(whole), history(pieces), check_exact=True)
    assert same(weights(whole), weights(pieces))


LIVE = [
    *TINY,
    "train.threads=1",
    "method=spectral",
    "train.epochs=12",
    "train.checkpoint_minutes=0",
    "measure.hessian=false",
    "measure.spectra=false",
]


def command(results: Path, *overrides: str) -> list[str]:
    return [sys.executable, str(ROOT / "scripts/train.py"), *LIVE, f"results={results}", *overrides]


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    while not condition() and process.poll() is None:
        time.sleep(0.01)


def test_killed_at_random_moments_equals_uninterrupted(tiny: Make, tmp_path: Path) -> None:
    """A process that is killed and resumed several times gives the same bits."""
    whole = tiny(*LIVE[len(TINY) :], f"results={tmp_path / 'whole'}")
    run(whole)
    pieces = dataclasses.replace(whole, results=str(tmp_path / "pieces"))
    saved = pieces.directory / checkpoint.FILE
    kills = 0
    for delay in (0.0, 0.031, 0.113):
        before = saved.stat().st_mtime_ns if saved.exists() else 0
        process = subprocess.Popen(command(tmp_path / "pieces"), stdout=subprocess.DEVNULL)
        wait_for(lambda: saved.exists() and saved.stat().st_mtime_ns > before, process)  # noqa: B023
        time.sleep(delay)
        process.kill()
        kills += process.wait() == -signal.SIGKILL
    assert kills == 3
    assert not store.is_finished(pieces.directory)
    done = subprocess.run(command(tmp_path / "pieces"), check=False)
    assert done.returncode == 0
    pd.testing.assert_frame_equal(history(whole), history(pieces), check_exact=True)
    assert same(weights(whole), weights(pieces))


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_saves_and_exits_as_resumable(tmp_path: Path, name: str) -> None:
    process = subprocess.Popen(command(tmp_path, "train.epochs=100000"), stderr=subprocess.PIPE)
    wait_for(lambda: any(tmp_path.rglob("history.csv")), process)
    process.send_signal(getattr(signal, name))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75
    assert b"the same command resumes it" in errors
    assert b"Traceback" not in errors
    state = checkpoint.load(next(tmp_path.rglob(checkpoint.FILE)).parent)
    assert state is not None
    assert state["progress"]["step"] > 0


def test_a_finished_run_is_not_touched_again(tiny: Make) -> None:
    config = tiny()
    first = run(config)
    before = {path: path.stat().st_mtime_ns for path in config.directory.iterdir()}
    assert run(config) == first
    assert before == {path: path.stat().st_mtime_ns for path in config.directory.iterdir()}


def test_divergence_is_a_result_with_the_step_and_the_last_finite_values(tiny: Make) -> None:
    config = tiny("method=decay", "method.factor=3", "optim.lr=30", "train.epochs=30")
    result = run(config)
    assert result.status == "diverged"
    assert result.reason is not None
    assert "at update" in result.reason or "after update" in result.reason
    frame = store.read(config.directory).history
    assert frame.notna().all().all()
    assert result.final == (dict(frame.iloc[-1]) if len(frame) else {})
    assert json.loads((config.directory / store.RESULT).read_text())["status"] == "diverged"
    assert run(config) == result  # a diverged run is finished


def test_first_bad_update_is_named(tiny: Make) -> None:
    config = tiny("measure.hessian=false")
    session = start(config)
    session.task.model.train()
    for _ in range(2):
        advance(session)
    with torch.no_grad():
        next(session.task.model.parameters()).fill_(float("nan"))
    for _ in range(3):
        advance(session)
    assert session.task.running.bad_step.item() == 3


def test_measuring_changes_nothing(tiny: Make) -> None:
    config = tiny("method=spectral", "measure.lanczos=true")
    config.directory.mkdir(parents=True)
    session = start(config)
    session.task.model.train()
    advance(session)

    def state() -> tuple[object, ...]:
        moving = [
            session.task.order.state_dict(),
            session.task.method.state_dict(),
            session.task.optimizers[0].state_dict(),
        ]
        flat = [repr(part) for part in moving]
        rng = [session.task.augmentation.get_state().tolist(), torch.get_rng_state().tolist()]
        grads = [None if p.grad is None else p.grad.clone().tolist() for p in session.task.model.parameters()]
        return state_hash(session.task.model), flat, rng, grads

    before = state()
    session.evaluate()
    assert state() == before
    session.task.final(SavedPieces(session.directory, session.step, saved=False))
    assert state() == before


def test_passes_of_part_of_the_batch_train_alike(tiny: Make) -> None:
    """batch.micro changes neither the run_id nor, but for rounding and dropout, the run."""
    options = (
        "batch=large",
        "batch.size=80",
        "batch.ghost=10",
        "model.dropout=[[0.0],[0.0],[0.0]]",
        "model.head_dropout=0",
    )
    whole, parts = tiny(*options), tiny(*options, "batch.micro=20")
    assert whole.run_id == parts.run_id
    sessions = [start(config) for config in (whole, parts)]
    for session in sessions:
        session.task.model.train()
        for _ in range(2):
            advance(session)
    for (name, a), b in zip(
        sessions[0].task.model.state_dict().items(), sessions[1].task.model.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


def test_a_new_method_needs_nothing_but_its_registration(tiny: Make) -> None:
    """A toy method, defined here: it pulls every weight matrix towards 1."""

    @dataclasses.dataclass
    class PullOptions:
        name: str = "pull"
        strength: float = 0.5

    class Pull(Method):
        Config = PullOptions

        def regularize(self) -> Tensor:
            total = torch.zeros(())
            for p in self.model.parameters():
                assert p.grad is not None
                p.grad.add_(p.detach() - 1, alpha=self.options.strength)
                total += 0.5 * self.options.strength * (p.detach() - 1).square().sum()
            return total

    register("pull")(Pull)
    try:
        config = tiny(
            "++method.name=pull", "++method.strength=5", "optim.lr=0.05", "train.epochs=10", "measure.hessian=false"
        )
        result = run(config)
    finally:
        del METHODS["pull"]
    assert result.method == "pull"
    assert config.method.strength == 5
    mean = torch.cat([w.flatten() for k, w in weights(config).items() if k.endswith("weight")]).mean()
    assert mean > 0.8


def test_another_data_set_under_the_same_run_is_refused(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny("train.stop_after=3")
    with pytest.raises(Interrupted):
        run(config)
    import sns.task.images as session

    original = session.load_dataset
    monkeypatch.setattr(session, "load_dataset", lambda *a: dataclasses.replace(original(*a), fingerprint="other"))
    session._loaded.clear()
    with pytest.raises(UserError, match="begun on other images"):
        run(config)
    session._loaded.clear()


def test_a_damaged_checkpoint_is_set_aside_and_the_run_starts_over(tiny: Make) -> None:
    config = tiny("train.stop_after=3")
    with pytest.raises(Interrupted):
        run(config)
    file = config.directory / checkpoint.FILE
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(Interrupted, match="update 3 of"):
        run(config)
    assert "damaged" in (config.directory / "train.log").read_text()
    assert (config.directory / "checkpoint.pt.damaged").exists()


def test_a_checkpoint_of_another_version_is_one_sentence(tiny: Make) -> None:
    config = tiny("train.stop_after=3")
    with pytest.raises(Interrupted):
        run(config)
    state = checkpoint.load(config.directory)
    assert state is not None
    del state["task"]["order"]
    checkpoint.save(config.directory, state)
    with pytest.raises(UserError, match="another version"):
        run(config)


def test_a_signal_while_the_record_is_written_ends_the_sweep_too(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    original = checkpoint.tidy

    def interrupted(directory: Path, keep: bool) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        original(directory, keep)

    monkeypatch.setattr(checkpoint, "tidy", interrupted)
    config = tiny("measure.hessian=false")
    with pytest.raises(Interrupted, match="is finished"):
        run(config)
    assert store.is_finished(config.directory)


def test_a_run_in_flight_elsewhere_is_left_alone(tiny: Make, tmp_path: Path) -> None:
    config = tiny(*LIVE[len(TINY) :], "train.epochs=100000")
    process = subprocess.Popen(command(tmp_path, "train.epochs=100000"), stderr=subprocess.DEVNULL)
    wait_for(lambda: (config.directory / store.HISTORY_CSV).exists(), process)
    try:
        with pytest.raises(UserError, match="being trained by another process"):
            run(config)
    finally:
        process.kill()
        process.wait()


def test_an_unwritable_results_folder_is_one_sentence(tiny: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be used"):
        run(tiny(f"results={tmp_path / 'file'}"))


def test_the_configuration_is_saved_with_the_record(tiny: Make) -> None:
    config = tiny("method=decay")
    run(config)
    stored = yaml.safe_load((config.directory / store.CONFIG).read_text())
    assert stored["method"] == {"name": "decay", "factor": 1e-4, "scope": "all", "scale": 1.0, "dose": None}
    assert stored["seed"] == 0


def test_weights_can_be_left_out(tiny: Make) -> None:
    config = tiny("train.keep_checkpoint=false")
    run(config)
    assert not (config.directory / checkpoint.FILE).exists()


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "meta"])
def test_an_absent_device_is_one_sentence(tiny: Make, name: str) -> None:
    with pytest.raises(UserError, match=f"train.device={name}"):
        run(tiny(f"train.device={name}"))


def test_bf16_trains_near_fp32(tiny: Make) -> None:
    """Autocast is on (the numbers differ) and harmless (losses agree to a few per cent)."""
    losses = {
        p: history_of(tiny(f"train.precision={p}", "measure.hessian=false")).train_loss.iloc[-1]
        for p in ("fp32", "bf16")
    }
    assert losses["fp32"] != losses["bf16"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.05)


def test_bf16_evaluations_change_losses_alone(tiny: Make) -> None:
    probes = ["measure.gradient_samples=10", "measure.hessian=false"]
    exact, near = (history_of(tiny(*probes, f"measure.precision={p}")) for p in ("fp32", "bf16"))
    assert (exact.train_loss != near.train_loss).all()
    assert near.train_loss.tolist() == pytest.approx(exact.train_loss.tolist(), rel=0.02)
    same = ["running_train_loss", "train_gradient_norm", "test_loss"]  # every test image has its gradient measured
    assert near[same].equals(exact[same])


def test_environment_names_the_commit() -> None:
    from sns.record.environment import describe

    environment = describe(torch.device("cpu"))
    packages = environment["packages"]
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    stated = ROOT / "COMMIT"  # of a copy without git
    expected = stated.read_text().splitlines()[0] if not (ROOT / ".git").exists() and stated.is_file() else None
    assert environment["commit"] == (expected or commit.stdout.strip() or None)
    assert packages["torch"] == torch.__version__.split("+")[0] or packages["torch"] == torch.__version__
    assert os.cpu_count() is not None
