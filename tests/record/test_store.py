"""A record in memory is that of the files as they are."""

import os
from pathlib import Path

import pytest
from synthetic import write_run

from sns.common.errors import RecordError
from sns.record import store


@pytest.mark.parametrize("name", ["history.csv", "config.yaml", "result.json", "layers.csv", "spectra.csv"])
def test_a_record_is_read_again_once_a_file_of_it_changes(tmp_path: Path, name: str) -> None:
    directory = write_run(tmp_path)
    first = store.read(directory)
    assert store.read(directory) is first
    file = directory / name
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    second = store.read(directory)
    assert second is not first
    file.unlink()
    if name in ("result.json", "history.csv"):
        with pytest.raises(RecordError):
            store.read(directory)
    else:
        assert store.read(directory) is not second
