"""A data set that does not fit is refused before it is read."""

from pathlib import Path

import pytest
import torch

from sns.common import memory
from sns.common.errors import DataError
from sns.config.schema import DataConfig
from sns.data.dataset import load_dataset

CPU = torch.device("cpu")


def test_too_little_is_one_sentence_with_both_numbers(monkeypatch):
    monkeypatch.setattr(memory, "available_host_bytes", lambda: 2_000_000_000)
    memory.require_host(2_000_000_000, "a.npz")
    with pytest.raises(
        DataError, match=r"^a\.npz needs 3 GB of host memory but 2 GB are free; use fewer images .*subset"
    ):
        memory.require_host(3_000_000_000, "a.npz")


def test_unknown_is_not_refused(monkeypatch):
    monkeypatch.setattr(memory, "available_host_bytes", lambda: None)
    memory.require_host(10**18, "a.npz")


def test_device_is_asked_and_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3_000_000_000, 80_000_000_000))
    monkeypatch.setattr(torch.accelerator, "memory_reserved", lambda device: 2_000_000_000)
    monkeypatch.setattr(torch.accelerator, "memory_allocated", lambda device: 1_000_000_000)
    device = torch.device("cuda:1")
    memory.require_device(4_000_000_000, device, "cifar10")  # 3 free and 1 reserved but unused
    with pytest.raises(DataError, match="needs 5 GB of memory of cuda:1 but 4 GB"):
        memory.require_device(5_000_000_000, device, "cifar10")


def test_load_asks_for_its_own_size(monkeypatch):
    size = 1797 * 64 * 5 + 200_000_000
    monkeypatch.setattr(memory, "available_host_bytes", lambda: size)
    assert len(load_dataset(DataConfig(name="digits"), CPU).train) == 1437
    monkeypatch.setattr(memory, "available_host_bytes", lambda: size - 1)
    with pytest.raises(DataError, match="the data set digits needs"):
        load_dataset(DataConfig(name="digits"), CPU)
    monkeypatch.setattr(memory, "available_host_bytes", lambda: size - 64 * 5)
    assert len(load_dataset(DataConfig(name="digits", subset=1436), CPU).train) == 1436


def test_a_device_that_fills_up_during_loading_is_an_error(monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("tried to allocate")

    monkeypatch.setattr("sns.data.dataset.global_contrast_normalize", full)
    with pytest.raises(DataError, match="does not fit on cpu; keep fewer"):
        load_dataset(DataConfig(name="digits"), CPU)


def write_group(folder: Path, names: tuple[str, str], limit: str, used: str, cached: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(limit + "\n")
    (folder / names[1]).write_text(used + "\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {cached}\nactive_file 1\n")


@pytest.fixture
def groups(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "GROUPS", tmp_path)
    monkeypatch.setattr(memory, "MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(memory, "_machine_bytes", lambda: 10_000)
    return tmp_path


def test_the_tightest_control_group_counts_without_cached_files(groups):
    names = ("memory.max", "memory.current")
    (groups / "membership").write_text("0::/job/step\n")
    write_group(groups / "job" / "step", names, "max", "500", 100)
    write_group(groups / "job", names, "1000", "700", 99)
    assert memory.available_host_bytes() == 1000 - 700 + 99 + 1
    write_group(groups / "job" / "step", names, "300", "200", 9)
    assert memory.available_host_bytes() == 300 - 200 + 9 + 1


def test_control_groups_of_version_1(groups):
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
    (groups / "membership").write_text("8:pids:/other\n4:memory:/job\n0::/\n")
    write_group(groups / "memory" / "job", names, "2000", "1500", 0)
    assert memory.available_host_bytes() == 501


def test_without_control_groups_the_machine_counts(groups):
    assert memory.available_host_bytes() == 10_000
