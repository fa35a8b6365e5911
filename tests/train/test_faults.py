"""Faults of disk, folder, data and memory: one line reports them, no finished epoch is lost."""

import errno
import json
import os
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from sns.common.errors import UserError
from sns.config.schema import Config
from sns.record import store
from sns.record.lock import RunLock
from sns.train import checkpoint, memory
from sns.train import saver as saving
from sns.train.progress import LOG, Reporter
from sns.train.result import write_failed
from sns.train.run import run
from sns.train.session import Session, start
from sns.train.stop import Interrupted, StopSignal

Make = Callable[..., Config]
SHORT = ("measure.hessian=false", "measure.spectra=false")
TIMINGS = ["train_seconds", "measure_seconds"]


def log_of(config: Config) -> str:
    return (config.directory / LOG).read_text()


def history(config: Config) -> pd.DataFrame:
    return store.read(config.directory).history.drop(columns=TIMINGS)


def same_as_quiet(tiny: Make, config: Config, *options: str) -> None:
    """Asserts that the run of `config` equals one without faults, bit by bit."""
    quiet = tiny(*SHORT, *options, "experiment.name=quiet")
    run(quiet)
    pd.testing.assert_frame_equal(history(config), history(quiet), check_exact=True)
    a, b = checkpoint.load(config.directory), checkpoint.load(quiet.directory)
    assert a is not None
    assert b is not None
    assert all(torch.equal(a["task"]["model"][name], b["task"]["model"][name]) for name in b["task"]["model"])


class Disk:
    """A disk that is full while `full`: fsync fails. Counts the failures in `refused`."""

    def __init__(self, patch: pytest.MonkeyPatch, code: int = errno.ENOSPC) -> None:
        self.full, self.refused = False, 0
        original = os.fsync

        def fsync(number: int) -> None:
            if self.full:
                self.refused += 1
                raise OSError(code, os.strerror(code))
            original(number)

        patch.setattr(os, "fsync", fsync)


def at_step(step: int, what: Callable[[], None], patch: pytest.MonkeyPatch) -> None:
    """Calls `what` once after update `step` of the next run."""
    original = saving.Saver.due
    done = []

    def due(self: saving.Saver, cheap: bool = False) -> bool:
        if self.session.step == step and not done:
            done.append(step)
            what()
        return original(self, cheap)

    patch.setattr(saving.Saver, "due", due)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.ESTALE])
def test_a_disk_that_is_full_for_a_while_costs_nothing(tiny: Make, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    disk = Disk(monkeypatch, code)
    at_step(5, lambda: setattr(disk, "full", True), monkeypatch)
    original = saving.Saver.after_evaluation

    def after_evaluation(self: saving.Saver) -> None:
        original(self)
        disk.full = False

    monkeypatch.setattr(saving.Saver, "after_evaluation", after_evaluation)
    config = tiny(*SHORT)
    assert run(config).status == "ok"
    assert disk.refused > 0
    assert f"history.csv cannot be written ({os.strerror(code)}); training continues" in log_of(config)
    same_as_quiet(tiny, config)


def test_checkpoints_that_fail_again_and_again_end_the_run_with_one_sentence(
    tiny: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(*SHORT, "train.checkpoint_minutes=0")
    with monkeypatch.context() as patch:
        disk = Disk(patch)
        at_step(5, lambda: setattr(disk, "full", True), patch)
        with pytest.raises(UserError, match=r"checkpoint\.pt cannot be written \(No space left") as caught:
            run(config)
    assert "\n" not in str(caught.value)
    assert log_of(config).count("training continues") >= 2
    run(config)
    assert "resumed at update 4 of 12" in log_of(config)
    same_as_quiet(tiny, config)


def test_a_real_file_limit_tears_no_file(tiny: Make) -> None:
    """With RLIMIT_FSIZE the kernel stops a write in the middle of a checkpoint."""
    config = tiny(*SHORT, "train.stop_after=6")
    with pytest.raises(Interrupted):
        run(config)
    size = (config.directory / checkpoint.FILE).stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, before[1]))
        with pytest.raises(UserError, match="cannot be written"):
            run(config)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(config.directory.glob(".*.tmp"))
    run(tiny(*SHORT))
    same_as_quiet(tiny, config)


def test_a_results_folder_that_is_gone_ends_in_one_sentence(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(*SHORT)
    with monkeypatch.context() as patch:
        at_step(5, lambda: shutil.rmtree(config.directory), patch)
        with pytest.raises(UserError, match=r"cannot be written .* no such folder"):
            run(config)
    assert run(config).status == "ok"


def test_a_data_folder_that_vanishes_while_training_changes_nothing(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        f"{kind}_{part}": rng.integers(0, 256 if kind == "x" else 10, (n, 8, 8, 1) if kind == "x" else n, "uint8")
        for part, n in (("train", 100), ("test", 50))
        for kind in ("x", "y")
    }
    np.savez(tmp_path / "images.npz", **arrays)
    options = (
        "data.name=npz",
        f"data.path={tmp_path / 'images.npz'}",
        f"data.root={tmp_path / 'cache'}",
        "data.download=false",
    )

    def vanish() -> None:
        (tmp_path / "images.npz").unlink()
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)

    at_step(5, vanish, monkeypatch)
    assert run(tiny(*SHORT, *options)).status == "ok"
    with pytest.raises(UserError, match=r"images\.npz") as caught:
        run(tiny(*SHORT, *options, "seed=1", "data.flip=true", "data.test_subset=40"))
    assert "\n" not in str(caught.value)


def out_of_memory(patch: pytest.MonkeyPatch, limit: int, step: int) -> list[int]:
    """A device with memory for `limit` images from update `step` on. Returns the pass sizes."""
    import sns.method.base as base

    sizes: list[int] = []
    original = base.Method.backward

    def backward(self: base.Method, risk: base.Risk, x: torch.Tensor, share: float) -> object:
        sizes.append(len(x))
        if len(x) > limit and len(sizes) > step:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return original(self, risk, x, share)  # type: ignore[arg-type]

    patch.setattr(base.Method, "backward", backward)
    return sizes


LARGE = (
    "batch=large",
    "batch.size=32",
    "batch.ghost=8",
    "model.dropout=[[0.0],[0.0],[0.0]]",
    "model.head_dropout=0",
    "train.epochs=4",
)


def test_out_of_memory_resumes_from_the_last_checkpoint_in_smaller_passes(
    tiny: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(*SHORT, *LARGE, "train.checkpoint_minutes=0")
    with monkeypatch.context() as patch:
        sizes = out_of_memory(patch, limit=20, step=7)
        result = run(config)
    assert result.status == "ok"
    assert sizes[:8] == [32] * 8
    assert set(sizes[8:]) == {16}
    assert len(sizes[8:]) == 2 * (result.steps - 7), "nothing that the checkpoint held was done again"
    text = log_of(config)
    assert "out of device memory with passes of 32 images: batch.micro=16 from here on" in text
    assert f"resumed at update 7 of {result.steps}" in text
    quiet = run(tiny(*SHORT, *LARGE, "experiment.name=quiet"))
    assert result.final["train_loss"] == pytest.approx(quiet.final["train_loss"], rel=1e-3)
    assert result.run_id == quiet.run_id


def test_out_of_memory_twice_ends_in_one_sentence(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = out_of_memory(monkeypatch, limit=4, step=0)
    with pytest.raises(UserError, match=r"passes of 16 images with batch\.ghost=8 are still too large"):
        run(tiny(*SHORT, *LARGE))
    assert sizes == [32, 16]


def test_a_batch_that_cannot_be_cut_says_so(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = out_of_memory(monkeypatch, limit=4, step=0)
    with pytest.raises(UserError, match=r"cannot be cut; set batch\.ghost") as caught:
        run(tiny(*SHORT))
    assert "\n" not in str(caught.value)
    assert sizes == [16], "no second attempt that could not help"


def test_out_of_memory_while_measuring_halves_the_measuring_batch(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    import sns.measure.evaluation as evaluation

    sizes: list[int] = []
    original = evaluation._forward_backward

    def forward_backward(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> object:
        sizes.append(len(x))
        if len(x) > 30:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(model, x, y)

    monkeypatch.setattr(evaluation, "_forward_backward", forward_backward)
    config = tiny(*SHORT, "measure.batch_size=50", "train.checkpoint_minutes=0")
    assert run(config).status == "ok"
    assert sizes[0] == 50
    assert set(sizes[1:]) == {25}
    text = log_of(config)
    assert "out of device memory while measuring: measure.batch_size=25 from here on" in text
    assert "resumed at update 6 of 12" in text


@pytest.mark.parametrize(
    ("size", "ghost", "pass_size", "expected"),
    [
        (4096, 64, 4096, 2048),
        (4096, 64, 100, None),
        (96, 8, 96, 48),
        (96, 32, 96, 32),
        (160, 32, 160, 32),
        (64, None, 64, None),
    ],
)
def test_half_a_pass_is_whole_ghost_groups_that_divide_the_batch(
    size: int, ghost: int | None, pass_size: int, expected: int | None
) -> None:
    from sns.config.schema import BatchConfig

    assert memory.half_pass(BatchConfig("large", size, ghost), pass_size) == expected


def test_a_run_that_is_given_up_leaves_a_record_with_the_reason(tiny: Make) -> None:
    config = tiny(*SHORT, "train.stop_after=7", "train.checkpoint_minutes=0")
    with pytest.raises(Interrupted):
        run(config)
    result = write_failed(config, "The node caught fire.\nTraceback: ...", "the command")
    assert (result.status, result.reason, result.steps) == ("failed", "The node caught fire", 6)
    record = store.read(config.directory)
    assert record.result == result
    assert result.final == dict(record.history.iloc[-1])
    assert result.command == "the command"
    assert checkpoint.exists(config.directory)
    assert run(config) == result, "it is finished"
    (config.directory / store.RESULT).unlink()
    assert run(tiny(*SHORT)).status == "ok"


def test_write_failed_for_a_run_that_never_started_is_finished_or_is_alive(tiny: Make) -> None:
    never = tiny(*SHORT, "seed=3")
    assert write_failed(never, "no such device").steps == 0
    assert store.read(never.directory).result.final == {}
    done = tiny(*SHORT)
    result = run(done)
    assert write_failed(done, "x") == result
    assert json.loads((done.directory / store.RESULT).read_text())["status"] == "ok"
    alive = tiny(*SHORT, "seed=4")
    alive.directory.mkdir(parents=True)
    with RunLock(alive.directory), pytest.raises(UserError, match="being trained by"):
        write_failed(alive, "x")


def test_a_claim_that_was_lost_stops_the_run_before_it_writes(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(*SHORT)
    at_step(5, lambda: setattr(locks[0], "lost", "taken over"), monkeypatch)
    locks: list[RunLock] = []
    original = RunLock.__enter__
    monkeypatch.setattr(RunLock, "__enter__", lambda self: (locks.append(self), original(self))[1])
    with pytest.raises(UserError, match="taken over: this one ends here"):
        run(config)
    assert not checkpoint.exists(config.directory)


def test_a_claim_lost_while_measuring_stops_the_save(tiny: Make, tmp_path: Path) -> None:
    session = start(tiny(*SHORT))
    session.directory.mkdir(parents=True)
    with RunLock(tmp_path) as lock, Reporter("none", session.directory, "x", 1) as reporter:
        saver = saving.Saver(session, reporter, StopSignal(), lock)
        saver.save()
        (session.directory / checkpoint.FILE).unlink()
        lock.lost = "taken over"
        with pytest.raises(UserError, match="taken over"):
            saver.save()
    assert not checkpoint.exists(session.directory)


def test_an_epoch_ends_with_a_checkpoint_where_that_is_cheap(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before and after each evaluation; after the first epoch always, as the cost is unknown."""
    saves: list[tuple[int, int]] = []
    original = Session.save

    def save(self: Session) -> None:
        saves.append((self.step, len(self.history)))
        original(self)

    monkeypatch.setattr(Session, "save", save)
    monkeypatch.setattr(saving, "CHEAP_SHARE", 1e9)
    run(tiny(*SHORT, "train.epochs=3"))
    assert saves == [(6, 0), (6, 1), (12, 1), (12, 2), (18, 2), (18, 3)]
    saves.clear()
    monkeypatch.setattr(saving, "CHEAP_SHARE", 0.0)
    run(tiny(*SHORT, "train.epochs=3", "seed=1"))
    assert saves == [(6, 0), (18, 2), (18, 3)]
