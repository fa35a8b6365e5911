"""Checkpoints against everything that can happen to a file."""

import errno
import os
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from sns.common import sealed
from sns.common.errors import UserError
from sns.common.files import atomic, clear_leftovers
from sns.train import checkpoint
from sns.train.checkpoint import FILE, PREVIOUS, CannotSave, exists, load, save, tidy


def state(step: int) -> dict[str, Any]:
    return {"step": step, "weight": torch.full((50,), float(step)), "history": [{"loss": 0.1}]}


def step_of(directory: Path) -> int | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = load(directory)
    return None if loaded is None else loaded["step"]


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A folder with the checkpoints of step 1 (previous) and step 2."""
    save(tmp_path, state(1))
    save(tmp_path, state(2))
    return tmp_path


def test_the_newest_is_loaded_and_the_previous_one_stays(two: Path) -> None:
    loaded = load(two)
    assert loaded is not None
    assert loaded["step"] == 2
    assert torch.equal(loaded["weight"], torch.full((50,), 2.0))
    assert checkpoint.read(two / PREVIOUS)["step"] == 1
    save(two, state(3))
    assert (step_of(two), checkpoint.read(two / PREVIOUS)["step"]) == (3, 2)
    assert {path.name for path in two.iterdir()} == {FILE, PREVIOUS}


def test_a_flipped_byte_anywhere_is_noticed(two: Path) -> None:
    """For a flip of any byte the previous checkpoint is loaded, never an altered state."""
    whole = (two / FILE).read_bytes()
    for place in range(0, len(whole), 7):
        (two / FILE).write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        with pytest.raises(ValueError, match=r"checksum|end is missing"):
            checkpoint.read(two / FILE)
    for place in (0, len(whole) // 2, len(whole) - 1):
        (two / FILE).write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.warns(UserWarning, match="damaged .* resumes from the checkpoint before it"):
            loaded = load(two)
        assert loaded is not None
        assert loaded["step"] == 1
        assert (two / f"{FILE}.damaged").exists()


@pytest.mark.parametrize("length", [0, 1, 20, -1, -40, -300])
def test_a_torn_file_falls_back(two: Path, length: int) -> None:
    (two / FILE).write_bytes((two / FILE).read_bytes()[:length])
    with pytest.warns(UserWarning, match="resumes from the checkpoint before it"):
        loaded = load(two)
    assert loaded is not None
    assert loaded["step"] == 1
    save(two, state(2))
    assert step_of(two) == 2


def test_two_bad_files_are_a_fresh_start(two: Path) -> None:
    (two / FILE).write_bytes(b"")
    (two / PREVIOUS).write_bytes((two / PREVIOUS).read_bytes()[:-3])
    with pytest.warns(UserWarning, match=r"before it|starts over") as caught:
        assert load(two) is None
    assert ["before it" in str(caught[0].message), "starts over" in str(caught[1].message)] == [True, True]
    assert not exists(two)
    assert {path.name for path in two.iterdir()} == {f"{FILE}.damaged", f"{PREVIOUS}.damaged"}


def test_a_file_that_cannot_be_read_is_not_taken_for_damaged(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Path) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", broken)
        with pytest.raises(UserError, match="cannot be read"):
            load(two)
    assert step_of(two) == 2


def test_nothing_there_is_no_warning(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(tmp_path) is None


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_file_that_runs_code_is_refused_though_its_seal_is_right(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    torch.save({"step": Evil()}, tmp_path / "evil")
    for body in ((tmp_path / "evil").read_bytes(), pickle.dumps({"step": Evil()})):
        (tmp_path / FILE).write_bytes(body + sealed.seal(memoryview(body)))
        with pytest.warns(UserWarning, match="damaged"):
            assert load(tmp_path) is None
    assert not (tmp_path / "ran").exists()


class Stop(BaseException):
    """Stands for the end of the process, as by SIGKILL."""


@pytest.mark.parametrize("links", [True, False], ids=["links", "no-links"])
def test_ended_at_any_file_operation_a_whole_checkpoint_is_there(
    two: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """Save ends before its k-th file operation, for every k; an intact step 2 or 3 is loaded."""
    if not links:
        monkeypatch.setattr(os, "link", refuse)
    seen: list[int | None] = []
    for k in range(100):
        save(two, state(1))
        save(two, state(2))
        count = 0
        with monkeypatch.context() as patch:

            def cut(original: Any, k: int = k) -> Any:
                def operation(*arguments: Any, **named: Any) -> Any:
                    nonlocal count
                    count += 1
                    if count > k:
                        raise Stop
                    return original(*arguments, **named)

                return operation

            for owner, name in ((os, "fsync"), (os, "link"), (Path, "replace"), (Path, "open"), (Path, "unlink")):
                patch.setattr(owner, name, cut(getattr(owner, name)))
            try:
                save(two, state(3))
            except Stop:
                pass
            else:
                break
        seen.append(step_of(two))
    assert k > 5
    assert set(seen) <= ({2, 3} if links else {1, 2, 3})
    assert seen[-1] == 3
    assert seen[0] == 2


def refuse(*_: Any, **__: Any) -> None:
    raise OSError(errno.EPERM, "no hard links here")


def test_without_hard_links_the_previous_one_stays_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", refuse)
    save(tmp_path, state(1))
    save(tmp_path, state(2))
    assert step_of(tmp_path) == 2
    assert checkpoint.read(tmp_path / PREVIOUS)["step"] == 1


def test_a_full_disk_is_one_sentence_and_loses_nothing(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CannotSave, match=r"No space left on device; .* MB free") as caught:
        save(two, state(3))
    assert "\n" not in str(caught.value)
    assert (step_of(two), checkpoint.read(two / PREVIOUS)["step"]) == (2, 1)
    assert {path.name for path in two.iterdir()} == {FILE, PREVIOUS}


def test_a_folder_that_is_gone_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CannotSave, match="no such folder"):
        save(tmp_path / "gone", state(1))


@pytest.mark.parametrize("keep", [True, False])
def test_at_the_end_only_the_final_one_stays(two: Path, keep: bool) -> None:
    tidy(two, keep)
    assert {path.name for path in two.iterdir()} == ({FILE} if keep else set())


def test_what_a_killed_writer_left_is_cleared(tmp_path: Path) -> None:
    def killed(file: Path) -> None:
        with atomic(file) as aside:
            aside.write_text("half")
            aside.rename(tmp_path / ".checkpoint.pt.77.tmp")  # so that nobody clears it away
            raise Stop

    with pytest.raises(Stop):
        killed(tmp_path / "a.txt")
    (tmp_path / "earlier.txt").write_text("whole")
    clear_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"earlier.txt"}
