"""A run over several processes equals the run of one: real processes, by torchrun, over gloo."""

import dataclasses
import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from conftest import ROOT, TINY, compose_tree

from sns.common.errors import UserError
from sns.common.ranks import Ranks
from sns.config.schema import BatchConfig, Config
from sns.record import store
from sns.record.lock import holder
from sns.train import checkpoint
from sns.train.configure import configure
from sns.train.progress import LOG
from sns.train.run import run

METHODS = ("vanilla", "decay", "adversarial", "spectral", "orthonormal", "sigma_reparam", "sam")
SHARED = [
    *TINY,
    "batch=large",
    "batch.size=32",
    "batch.ghost=8",
    "optim.lr=0.05",
    "data.crop_padding=1",
    "data.flip=true",
    "train.threads=1",
    "measure.hessian=false",
    "measure.spectra=false",
    "measure.gradient_samples=60",
]
PLAIN = ["model.dropout=[[0.0],[0.0],[0.0]]", "model.head_dropout=0"]
TIMINGS = ["train_seconds", "measure_seconds"]


def torchrun(processes: int, *overrides: str) -> subprocess.Popen[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}"),
            *("--master-addr=127.0.0.1", f"--master-port={port}", "--signals-to-handle=SIGTERM,SIGINT,SIGUSR2"),
            *(str(ROOT / "scripts/train.py"), *overrides),
        ],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def make(results: Path, *overrides: str) -> Config:
    return configure(compose_tree(*SHARED, f"results={results}", *overrides))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of these methods, trained by two processes."""
    results = tmp_path_factory.mktemp("two")
    process = torchrun(2, "-m", *SHARED, *PLAIN, f"results={results}", f"method={','.join(METHODS)}")
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return results


def state_of(config: Config) -> dict[str, Any]:
    """What the task saved in the run's last checkpoint."""
    state = checkpoint.load(config.directory)
    assert state is not None
    return dict(state["task"])


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_train_what_one_does(two: Path, tmp_path: Path, method: str) -> None:
    shared = make(two, *PLAIN, f"method={method}")
    alone = make(tmp_path, *PLAIN, f"method={method}", "batch.micro=16")  # passes as large as the ranks'
    result = run(alone)
    assert shared.run_id == alone.run_id
    record = store.read(shared.directory)
    assert record.result.status == "ok"
    assert record.result.steps == result.steps == 6
    frames = [record.history, store.read(alone.directory).history]
    left, right = (frame.drop(columns=TIMINGS) for frame in frames)
    pd.testing.assert_frame_equal(left, right, check_exact=False, rtol=2e-4, atol=1e-6)
    a, b = state_of(shared), state_of(alone)
    for part in ("model", "method"):
        for name, value in b[part].items():
            torch.testing.assert_close(a[part][name], value, rtol=2e-4, atol=2e-6, msg=f"{part}.{name}")
    assert a["running"]["bad_step"] == b["running"]["bad_step"]


def test_only_one_process_writes(two: Path) -> None:
    for method in METHODS:
        directory = make(two, *PLAIN, f"method={method}").directory
        lines = (directory / LOG).read_text().splitlines()
        assert [line for line in lines if "done: test accuracy" in line] == lines[-1:]
        assert sum("epoch" in line for line in lines) == 2
        assert len(lines) == len(set(lines))
        assert not list(directory.glob("*.damaged"))


def test_a_signal_to_one_process_stops_both_at_one_step_and_the_run_resumes_to_the_bit(tmp_path: Path) -> None:
    """With dropout: each process gets its own stream of masks back."""
    options = ["method=spectral", "train.epochs=90", "measure.every=30", "train.checkpoint_minutes=60"]
    quiet, stopped = make(tmp_path / "quiet", *options), make(tmp_path / "stopped", *options)
    whole = torchrun(2, *SHARED, *options, f"results={tmp_path / 'quiet'}")
    output, _ = whole.communicate(timeout=300)
    assert whole.returncode == 0, output
    process = torchrun(2, *SHARED, *options, f"results={tmp_path / 'stopped'}")
    while not (stopped.directory / LOG).exists() and process.poll() is None:
        time.sleep(0.01)
    owner = holder(stopped.directory)
    assert owner is not None
    os.kill(owner.pid, signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    stops = re.findall(r"stopped at update (\d+) of (\d+) \(SIGTERM\)", output)
    assert len(stops) == 2, output
    assert len(set(stops)) == 1
    assert int(stops[0][0]) < int(stops[0][1]) == 281
    again = torchrun(2, *SHARED, *options, f"results={tmp_path / 'stopped'}")
    output, _ = again.communicate(timeout=300)
    assert again.returncode == 0, output
    frames = [store.read(config.directory).history.drop(columns=TIMINGS) for config in (quiet, stopped)]
    pd.testing.assert_frame_equal(*frames, check_exact=True)
    a, b = (state_of(config)["model"] for config in (quiet, stopped))
    assert all(torch.equal(a[name], b[name]) for name in a)  # type: ignore[attr-defined,index]


def test_one_option_starts_the_processes_and_passes_their_stop_on(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts/train.py"), *SHARED, *PLAIN, f"results={tmp_path}"]
    command += ["train.epochs=100000", "launch.gpus_per_run=2"]
    config = make(tmp_path, *PLAIN, "train.epochs=100000")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not (config.directory / store.HISTORY_CSV).exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, output = process.communicate(timeout=120)
    assert process.returncode == 75, output
    assert len(set(re.findall(r"stopped at update (\d+) of", output))) == 1
    assert checkpoint.exists(config.directory)
    refused = subprocess.run(
        [*command, "batch.ghost=32", "train.epochs=2"], capture_output=True, text=True, check=False
    )
    assert refused.returncode == 1
    assert "cannot be shared by 2 processes" in refused.stderr


@pytest.mark.parametrize(
    ("size", "ghost", "world", "expected"),
    [(32, 8, 2, 16), (32, 8, 4, 8), (32, None, 1, 32), (4096, 64, 8, 512), (32, 8, 3, None), (32, 8, 8, None)],
)
def test_each_process_gets_whole_groups_or_the_run_is_refused(
    size: int, ghost: int | None, world: int, expected: int | None
) -> None:
    batch = BatchConfig("large", size, ghost)
    if expected is None:
        with pytest.raises(UserError, match=f"cannot be shared by {world} processes") as caught:
            Ranks(0, world).part(batch.size, batch.ghost)
        assert "\n" not in str(caught.value)
    else:
        assert Ranks(0, world).part(batch.size, batch.ghost) == expected


def test_a_batch_without_groups_cannot_be_shared() -> None:
    with pytest.raises(UserError, match="cannot be shared"):
        Ranks(0, 2).part(64, None)


@pytest.mark.parametrize(("n", "world"), [(7, 3), (10, 2), (2, 4), (50_000, 8)])
def test_the_parts_are_all_there_is_once(n: int, world: int) -> None:
    bounds = [Ranks(rank, world).bounds(n) for rank in range(world)]
    assert bounds[0][0] == 0
    assert bounds[-1][1] == n
    assert all(left[1] == right[0] for left, right in itertools.pairwise(bounds))


def test_one_process_communicates_with_none(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch.distributed as dist

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError

    for name in ("all_reduce", "all_gather", "broadcast_object_list"):
        monkeypatch.setattr(dist, name, refuse)
    alone = Ranks()
    make_value: Callable[[], int] = lambda: 3  # noqa: E731
    assert (alone.maximum(2), alone.sums([1.5]), alone.from_first(make_value)) == (2, [1.5], 3)
    assert dataclasses.replace(alone, local=5) == alone
