"""TensorBoard's event files against the run directories."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from synthetic import write_run

pytest.importorskip("tensorboard", reason="pip install -e '.[track]'")
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sns.track.events import TAGS, EventFiles


def shown(target: Path, name: str, tag: str) -> list[tuple[int, float]]:
    """(step, value) as TensorBoard reads them."""
    events = EventAccumulator(str(target / name))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


def rows(directory: Path) -> list[dict[str, str]]:
    with (directory / "history.csv").open() as file:
        return list(csv.DictReader(file))


def write_rows(directory: Path, content: list[dict[str, str]]) -> None:
    with (directory / "history.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, content[0].keys())
        writer.writeheader()
        writer.writerows(content)


def test_a_growing_run_is_followed_and_a_resumed_one_corrected(tmp_path: Path) -> None:
    directory = write_run(tmp_path / "runs/demo", "vgg_cifar10", "spectral", "small", 0, epochs=6)
    whole = rows(directory)
    (directory / "result.json").unlink()
    files, target = EventFiles(tmp_path / "runs", tmp_path / "events"), tmp_path / "events"
    name = "demo/" + directory.name.rsplit("__", 1)[0]
    write_rows(directory, whole[:4])
    assert files.update() == 1
    assert [step for step, _ in shown(target, name, "accuracy/test")] == [1, 2, 3, 4]
    write_rows(directory, [*whole[:2], whole[2] | {"test_accuracy": "0.125"}])  # killed, and resumed from before
    files.update()
    assert shown(target, name, "accuracy/test")[2:] == [(3, 0.125)]
    write_rows(directory, whole)
    files.update()
    files.update()
    files.close()
    for tag, column in TAGS.items():
        wanted = [(number, float(row[column])) for number, row in enumerate(whole, start=1)]
        assert shown(target, name, tag) == [(step, pytest.approx(value, rel=1e-6)) for step, value in wanted]


def test_what_cannot_be_read_is_read_at_the_next_update(tmp_path: Path) -> None:
    directory = write_run(tmp_path / "runs/demo", "vgg_cifar10", "spectral", "small", 0, epochs=2)
    twin = directory.with_name(directory.name[:-8] + "00000000")
    twin.mkdir()
    (twin / "config.yaml").write_text("{")
    files = EventFiles(tmp_path / "runs", tmp_path / "events")
    assert files.update() == 1
    (twin / "history.csv").write_text((directory / "history.csv").read_text())
    assert files.update() == 2  # same name but for its digits
    files.close()
    assert len({path.parent for path in (tmp_path / "events").rglob("events*")}) == 2


def test_a_wrong_folder_is_an_error(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts/watch.py"), str(tmp_path / "nowhere")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {tmp_path}/nowhere does not exist")
