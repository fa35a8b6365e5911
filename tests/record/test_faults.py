"""A record that is absent, partial, unreadable, damaged or foreign: five things, five sentences,
and no advice that destroys what may be good."""

import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd  # noqa: F401  imported while this process may read it
import pytest
from conftest import ROOT
from synthetic import write_run

from sns.common.errors import UserError
from sns.config.schema import Config
from sns.launch import manifest, status
from sns.record import store
from sns.record.state import state_of
from sns.train import checkpoint
from sns.train.run import run

NOBODY = 65534


@contextmanager
def another_user() -> Iterator[None]:
    """Root may read everything; inside, this process is a user who owns nothing."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.fixture
def folder() -> Iterator[Path]:
    """An experiment's folder that every user may enter."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        yield Path(place) / "runs" / "demo"


def _unlink(directory: Path) -> None:
    (directory / store.RESULT).unlink()


def _cut(directory: Path) -> None:
    file = directory / store.RESULT
    file.write_text(file.read_text()[:-20])


def _other_schema(directory: Path) -> None:
    file = directory / store.RESULT
    file.write_text(json.dumps(json.loads(file.read_text()) | {"schema": 99}))


def _dangling(directory: Path) -> None:
    _unlink(directory)
    (directory / store.RESULT).symlink_to("/nowhere/result.json")


HARM: dict[str, tuple[Callable[[Path], object], str, str]] = {  # what happened, the sentence, the state
    "absent": (_unlink, "has no result.json: the run is not finished", "to do"),
    "partial": (lambda d: (d / store.HISTORY_CSV).unlink(), "history.csv is missing, the record is partial", "failed"),
    "unreadable": (lambda d: (d / store.RESULT).chmod(0), "result.json cannot be read (Permission denied)", "failed"),
    "its history": (lambda d: (d / store.HISTORY_CSV).chmod(0), "history.csv cannot be read (Permission", "failed"),
    "its folder": (lambda d: d.chmod(0), "result.json cannot be read (Permission denied)", "failed"),
    "elsewhere": (_dangling, "result.json cannot be read (No such file or directory), it may be good", "failed"),
    "damaged": (_cut, "result.json is damaged", "failed"),
    "empty": (lambda d: (d / store.HISTORY_CSV).write_text(""), "history.csv is damaged", "failed"),
    "foreign": (lambda d: (d / store.RESULT).write_text("{}"), "is not a record of this project", "failed"),
    "of a later version": (_other_schema, "has schema 99, this version reads", "failed"),
}


@pytest.mark.parametrize("what", HARM)
def test_each_fault_has_its_sentence_in_every_listing(folder: Path, what: str) -> None:
    harm, sentence, state = HARM[what]
    good, bad = write_run(folder, seed=0), write_run(folder, seed=1)
    harm(bad)
    with another_user():
        assert store.run_directories(folder) == sorted([good, bad])
        records, warnings = store.read_all(folder)
        with pytest.raises(UserError, match=re.escape(sentence)) as caught:
            store.read(bad)
        lines = {line.run_id: line for line in status.lines(folder)}
    bad.chmod(0o755)
    assert [record.path for record in records] == [good]
    assert len(warnings) == 1
    assert sentence in warnings[0].replace(f"{folder}/", "")
    assert "delete" not in str(caught.value)
    assert (lines[good.name].state, lines[bad.name].state) == ("done", state)


def test_a_folder_that_cannot_be_listed_is_named(folder: Path) -> None:
    write_run(folder)
    folder.chmod(0)
    with another_user():
        _, warnings = store.read_all(folder.parent)
    folder.chmod(0o755)
    assert len(warnings) == 1
    assert "cannot be read (Permission denied)" in warnings[0]


@pytest.mark.parametrize("what", ["unreadable", "elsewhere", "its folder"])
def test_no_run_takes_the_place_of_a_record_that_cannot_be_read(folder: Path, what: str) -> None:
    directory = write_run(folder)
    HARM[what][0](directory)
    with another_user():
        assert store.is_finished(directory)
        state = state_of(directory, retries=2)
    directory.chmod(0o755)
    assert (state.name, state.retry) == ("failed", False)


def test_an_unreadable_configuration_is_not_damaged(folder: Path) -> None:
    directory = write_run(folder)
    (directory / store.CONFIG).chmod(0)
    with another_user(), pytest.raises(UserError, match=r"config.yaml cannot be read \(Permission denied\)"):
        _ = store.read(directory).config


def test_an_unreadable_manifest_and_a_damaged_one_are_two_things(folder: Path) -> None:
    write_run(folder)
    (folder / manifest.FILE).write_text("{")
    with pytest.raises(UserError, match=r"is damaged .*: move it"):
        manifest.read(folder)
    (folder / manifest.FILE).chmod(0)
    with another_user(), pytest.raises(UserError, match=r"cannot be read .Permission denied"):
        manifest.read(folder)


def test_an_unreadable_checkpoint_is_not_set_aside(tiny: Callable[..., Config]) -> None:
    config = tiny("train.stop_after=3")
    with pytest.raises(Exception, match="stopped at update 3"):
        run(config)
    file = config.directory / checkpoint.FILE
    before, opened = file.read_bytes(), Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path == file:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "read_bytes", refuse)
        with pytest.raises(UserError, match=r"cannot be read .Permission denied.*make it readable"):
            run(config)
    assert file.read_bytes() == before


def test_no_message_advises_to_delete() -> None:
    sources = [*(ROOT / "sns").rglob("*.py"), *(ROOT / "scripts").glob("*.py")]
    advice = [f"{path.name}: {line}" for path in sources for line in path.read_text().splitlines() if "delete " in line]
    assert [line for line in advice if '"""' not in line and "#" not in line] == []
