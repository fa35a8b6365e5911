"""One listing of run directories for every reader: finished or not, linked or not, each once."""

from pathlib import Path

from synthetic import write_run

from sns.analysis.cells import load_experiment
from sns.analysis.verify import record_faults
from sns.launch import status
from sns.record import store
from sns.track.events import EventFiles
from sns.track.sync import without_mirror
from sns.train.configure import configure


def test_a_linked_run_is_seen_by_every_reader(tmp_path: Path) -> None:
    folder = tmp_path / "results" / "runs" / "demo"
    moved = write_run(tmp_path / "elsewhere" / "runs" / "demo", seed=1)
    write_run(folder, seed=0)
    (folder / moved.name).symlink_to(moved)
    assert len(store.run_directories(folder)) == 2
    assert len(store.read_all(folder)[0]) == 2
    assert [line.state for line in status.lines(folder)] == ["done", "done"]


def test_links_within_one_results_folder_are_seen_wherever_they_stand(tmp_path: Path) -> None:
    """A run shared by two experiments, and a second name of a whole experiment."""
    runs = tmp_path / "results" / "runs"
    run = write_run(runs / "first")
    (runs / "second").mkdir()
    (runs / "second" / run.name).symlink_to(run)
    (runs / "third").symlink_to(runs / "first")
    everywhere = [runs / name / run.name for name in ("first", "second", "third")]
    assert store.run_directories(runs) == everywhere
    assert [folder.name for folder in status.experiments(tmp_path / "results")] == ["first", "second", "third"]
    for directory in everywhere:
        assert store.run_directories(directory.parent) == [directory]
        assert [line.state for line in status.lines(directory.parent)] == ["done"]
        # behind tables, figures, scores and the report
        folder, results = load_experiment(tmp_path / "results", directory.parent.name)
        assert (folder, [record.path for record in results.records]) == (directory.parent, [directory])
    assert without_mirror(runs, tmp_path / "wandb") == everywhere
    assert EventFiles(runs, tmp_path / "events").update() == 3
    faults = list(record_faults(runs, configure))
    assert all(any(str(directory) in fault for fault in faults) for directory in everywhere)


def test_two_folders_that_link_to_each_other_end(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a" / "demo")
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "to_b").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "to_a").symlink_to(tmp_path / "a")
    assert store.run_directories(tmp_path / "a") == [run]


def test_unfinished_runs_are_listed_and_a_loop_of_links_ends(tmp_path: Path) -> None:
    begun = write_run(tmp_path / "demo")
    (begun / store.RESULT).unlink()
    (begun / "loop").symlink_to(tmp_path)
    assert store.run_directories(tmp_path) == [begun]
