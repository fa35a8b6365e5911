"""Which records make results, which are left out and named, and which folder is meant."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from synthetic import write_grid, write_run

from sns.analysis.cells import arrange, experiment_folder, load_experiment, load_results, output_folder, paper_table
from sns.common.errors import RecordError


def edit(run: Path, **fields: object) -> None:
    file = run / "result.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def test_cells_stand_in_the_papers_order_with_runs_by_seed(tmp_path: Path) -> None:
    write_grid(tmp_path, ("digits_vgg", "nin_cifar100", "vgg_cifar10"), ("spectral", "vanilla"), seeds=(2, 0))
    results = load_results(tmp_path)
    assert results.settings == ("vgg_cifar10", "nin_cifar100", "digits_vgg")
    first = [(cell.setting, cell.regime, cell.method) for cell in results.cells[:3]]
    assert {setting for setting, _, _ in first} == {"vgg_cifar10"}
    assert [place[1:] for place in first] == [("small", "vanilla"), ("small", "spectral"), ("large", "vanilla")]
    assert [r.result.seed for r in results.cell("nin_cifar100", "vanilla", "large").records] == [0, 2]
    assert results.cell("nin_cifar100", "decay", "large").records == ()
    assert results.warnings == ()


def test_each_damaged_record_is_named_and_left_out(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, seed=seed) for seed in range(10)]
    (runs[0] / "result.json").write_text('{"schema": 1, "run_')
    (runs[1] / "history.csv").write_text("epoch,step\n1,2\n")
    (runs[2] / "result.json").unlink()
    edit(runs[3], schema=99)
    edit(runs[4], regime="medium")
    edit(runs[5], final={"test_accuracy": None})
    edit(runs[6], seed="six")
    (runs[7] / "result.json").write_text('{"accuracy": 0.9}')
    edit(runs[8], colour="red")
    results = load_results(tmp_path)
    assert [r.result.seed for r in results.cells[0].records] == [9]
    assert len(results.warnings) == 9
    for run in runs[:9]:
        assert sum(run.name in warning for warning in results.warnings) == 1


def test_a_repeated_run_counts_once(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a")
    write_run(tmp_path / "b", run_id=run.name)
    results = load_results(tmp_path)
    assert len(results.cells[0].records) == 1
    assert "repeats the run" in results.warnings[0]


def test_only_one_variant_of_a_cell_is_kept(tmp_path: Path) -> None:
    write_grid(tmp_path, methods=("vanilla",), regimes=("small",), seeds=range(3), epochs=4)
    write_grid(tmp_path, methods=("vanilla",), regimes=("small",), seeds=range(2), epochs=5)
    results = load_results(tmp_path)
    assert {r.result.epochs for r in results.cells[0].records} == {4}
    assert len(results.warnings) == 1
    assert results.warnings[0].startswith("vgg_cifar10 vanilla small: 2 run(s)")


def test_experiment_folder(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "demo")
    (tmp_path / "runs" / "nothing").mkdir()
    demo = tmp_path / "runs" / "demo"
    assert experiment_folder(tmp_path) == demo
    assert experiment_folder(demo) == demo
    run = next(demo.iterdir())
    assert experiment_folder(run) == run
    write_run(tmp_path / "runs" / "table1")
    assert experiment_folder(tmp_path, "table1") == tmp_path / "runs" / "table1"
    with pytest.raises(RecordError, match="--experiment: demo, table1"):
        experiment_folder(tmp_path)
    with pytest.raises(RecordError, match="no experiment tabel1; there are: demo, table1"):
        experiment_folder(tmp_path, "tabel1")


def test_folders_without_runs_are_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="holds no runs/ folder"):
        experiment_folder(tmp_path)
    with pytest.raises(RecordError, match="does not exist"):
        experiment_folder(tmp_path / "absent")
    (tmp_path / "runs").mkdir()
    with pytest.raises(RecordError, match="holds no runs yet"):
        experiment_folder(tmp_path)
    run = write_run(tmp_path / "runs" / "demo")
    (run / "result.json").unlink()
    with pytest.raises(RecordError, match="holds no finished run"):
        load_experiment(tmp_path)
    assert arrange([]).cells == ()


def test_output_folder(tmp_path: Path) -> None:
    assert output_folder(tmp_path / "runs" / "demo") == tmp_path / "demo"
    assert output_folder(tmp_path / "runs" / "demo" / "run") == tmp_path / "demo" / "run"
    assert output_folder(tmp_path / "elsewhere") == tmp_path / "elsewhere"
    with pytest.raises(RecordError, match="reserved"):
        output_folder(tmp_path / "runs" / "paper")  # would overwrite the published numbers


def test_paper_table_is_complete() -> None:
    paper = paper_table()
    assert len(paper) == 32
    assert paper["regime"].value_counts().to_dict() == {"small": 16, "large": 16}


def test_analysis_imports_no_torch() -> None:
    code = (
        "import importlib, pkgutil, sys, sns.analysis as a\n"
        "names = [m.name for m in pkgutil.walk_packages(a.__path__, a.__name__ + '.')]\n"
        "[importlib.import_module(name) for name in names]\n"
        "assert 'sns.analysis.figures.figure6' in names and 'torch' not in sys.modules, 'torch was imported'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr


def test_a_file_in_place_of_a_results_folder_is_named_as_that(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    with pytest.raises(RecordError, match=r"mine is a file: give the results folder"):
        experiment_folder(tmp_path / "mine")
    with pytest.raises(RecordError, match=r"absent does not exist: give the results folder"):
        experiment_folder(tmp_path / "absent")
