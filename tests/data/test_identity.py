"""Images of one's own are identified by their content: no file takes another one's record."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sns.analysis.cells import arrange
from sns.analysis.verify import record_faults
from sns.common.errors import RecordError, UserError
from sns.config import schema
from sns.config.schema import Config, DataConfig
from sns.data import identity
from sns.launch.run_sweep import Sweep
from sns.launch.sweep import SweepRun
from sns.record import store
from sns.train.configure import configure
from sns.train.run import run


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/sns/digests.json"


def images(file: Path, seed: int, save: Callable[..., None] = np.savez) -> Path:
    random = np.random.default_rng(seed)
    x, y = random.integers(0, 255, (150, 8, 8, 1), dtype=np.uint8), np.arange(150) % 10
    file.parent.mkdir(parents=True, exist_ok=True)
    save(file, x_train=x[:100], y_train=y[:100], x_test=x[100:], y_test=y[100:])
    return file


def make(tiny: Callable[..., Config], file: Path) -> Config:
    return identity.identified(tiny("data=npz", f"data.path={file}", "train.epochs=0.2", "measure.hessian=false"))


def test_files_of_one_name_are_two_data_sets_and_names_and_packing_do_not_matter(
    tmp_path: Path, tiny: Callable[..., Config]
) -> None:
    first, second = (make(tiny, images(tmp_path / f"{seed}/data.npz", seed)) for seed in (1, 2))
    assert first.run_id != second.run_id
    assert make(tiny, images(tmp_path / "other.npz", 1, np.savez_compressed)).run_id == first.run_id
    assert configure(schema.to_dict(first)).run_id == first.run_id
    images(tmp_path / "1/data.npz", 3)
    with pytest.raises(UserError, match=r"holds other arrays than data\.content="):
        identity.identified(first)


def test_runs_named_by_the_file_keep_their_ids(tmp_path: Path, tiny: Callable[..., Config]) -> None:
    name = tiny("data=npz", "data.path=/nowhere/cifar10.npz")
    known = next(iter(schema.COMMITTED))
    assert DataConfig(name="npz", path="x.npz", content=known).source == "cifar10.npz" == name.data.source
    assert identity.identified(name) == name  # a file that is not here


def test_a_digest_is_computed_once_and_again_after_a_change(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, count = images(tmp_path / "data.npz", 1), [0]
    original = identity._digest

    def counted(path: Path) -> str:
        count[0] += 1
        return original(path)

    monkeypatch.setattr(identity, "_digest", counted)
    first = identity.content_of(file)
    assert identity.content_of(file) == first
    assert count == [1]
    times = file.stat()
    images(file, 2)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))  # as `cp -p` does
    assert file.stat().st_size == times.st_size
    assert identity.content_of(file) != first
    for content in ("{", "[]", json.dumps({str(file): 3}), "\x00"):
        cache.write_text(content)
        assert identity.content_of(file) is not None
    cache.unlink()
    cache.parent.rmdir()
    cache.parent.write_text("a file where the folder should be")
    assert identity.content_of(file) is not None


def test_a_finished_run_of_other_images_is_never_returned(
    tmp_path: Path, tiny: Callable[..., Config], capsys: pytest.CaptureFixture[str]
) -> None:
    file = images(tmp_path / "data.npz", 1)
    old = tiny("data=npz", f"data.path={file}", "train.epochs=0.2", "measure.hessian=false")  # named by the file
    run(old)
    assert run(old).run_id == old.run_id
    images(file, 2)
    with pytest.raises(RecordError, match="was trained on other images"):
        run(old)
    assert Sweep([SweepRun((), old)], []).run(lambda runs: None) == 1
    assert "was trained on other images" in capsys.readouterr().err
    file.unlink()
    assert run(old).run_id == old.run_id  # nothing to compare with


def test_a_cell_never_mixes_two_data_sets(tmp_path: Path, tiny: Callable[..., Config]) -> None:
    configs = [tiny("train.epochs=0.2", "measure.hessian=false", f"seed={seed}") for seed in (0, 1, 2)]
    for config in configs:
        run(config)
    file = configs[2].directory / store.RESULT
    result = json.loads(file.read_text())
    result["environment"]["data"]["fingerprint"] = "0" * 32
    file.write_text(json.dumps(result))
    results = arrange(*store.read_all(tmp_path / "runs"))
    assert [record.result.seed for record in results.cells[0].records] == [0, 1]
    assert "images=" + "0" * 32 in results.warnings[0]
    faults = list(record_faults(tmp_path / "runs", configure))
    assert len(faults) == 1
    assert "was trained on other images than the runs that differ in the seed alone" in faults[0]
