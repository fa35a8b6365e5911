"""One listing of run directories for every reader: finished or not, linked or not, each once."""

from pathlib import Path

from synthetic import write_run

from sns.launch import status
from sns.record import store


def test_a_linked_run_is_seen_by_every_reader(tmp_path: Path) -> None:
    folder = tmp_path / "results" / "runs" / "demo"
    moved = write_run(tmp_path / "elsewhere" / "runs" / "demo", seed=1)
    write_run(folder, seed=0)
    (folder / moved.name).symlink_to(moved)
    assert len(store.run_directories(folder)) == 2
    assert len(store.read_all(folder)[0]) == 2
    assert [line.state for line in status.lines(folder)] == ["done", "done"]


def test_unfinished_runs_are_listed_and_a_loop_of_links_ends(tmp_path: Path) -> None:
    begun = write_run(tmp_path / "demo")
    (begun / store.RESULT).unlink()
    (begun / "loop").symlink_to(tmp_path)
    assert store.run_directories(tmp_path) == [begun]
