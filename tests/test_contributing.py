"""The files of CONTRIBUTING.md, added to a copy of the repository, do what its commands promise."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import recipe
import yaml
from conftest import ROOT

PYTHON = {path: text for path, text in recipe.FILES.items() if path.endswith(".py")}
SHORT = ["train.threads=1", "train.device=cpu", "train.progress=none", "track=disabled", "seed=0"]


def shown(*words: str, cwd: Path) -> str:
    """What a command prints; it has to succeed."""
    environment = os.environ | {"PYTHONPATH": str(cwd), "COLUMNS": "200"}
    command = [sys.executable, *words]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository with the files of CONTRIBUTING.md and without records."""
    copy = tmp_path_factory.mktemp("tree")
    for folder in ("sns", "configs", "hydra_plugins", "scripts", "results/paper", "results/bakeoff", "results/sngan"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for path, text in recipe.FILES.items():
        assert not (copy / path).exists(), path
        (copy / path).write_text(text)
    return copy


@pytest.fixture(scope="module")
def results(tree: Path) -> Path:
    """The results folder after the first command of CONTRIBUTING.md, with one seed."""
    python, *words = recipe.COMMANDS[0].split()
    assert python == "python"
    assert "8 runs: 8 done" in shown(*words, *SHORT, cwd=tree)
    return tree / "results"


def command(tree: Path, script: str) -> str:
    """What the command of CONTRIBUTING.md that runs `script` prints."""
    (words,) = (line.split()[1:] for line in recipe.COMMANDS if f"scripts/{script}.py" in line)
    return shown(*words, cwd=tree)


def test_the_files_pass_the_checks(tmp_path: Path) -> None:
    """They lie in one folder here, so that mypy uses what it knows of the repository."""
    for path, text in PYTHON.items():
        (tmp_path / Path(path).name).write_text(text)
    settings = str(ROOT / "pyproject.toml")
    shown("-m", "ruff", "check", "--config", settings, str(tmp_path), cwd=ROOT)
    shown("-m", "ruff", "format", "--check", "--config", settings, str(tmp_path), cwd=ROOT)
    files = map(str, tmp_path.glob("*.py"))
    shown("-m", "mypy", "--strict", "--follow-imports=silent", "--config-file", settings, *files, cwd=ROOT)


def test_the_experiment_trains(results: Path) -> None:
    states = command(results.parent, "status")
    assert (states.count("test accuracy"), states.count("test error")) == (4, 4)
    scores = command(results.parent, "scores")
    for place in ("stripes_mlp | 10 |", "stripes_mlp | 100 |", "made_vectors | 8 |", "made_vectors | 40 |"):
        assert f"| {place} orthogonal |  | test_" in scores
    for run in (results / "runs/first").glob("*orthogonal*"):
        config, history = yaml.safe_load((run / "config.yaml").read_text()), pd.read_csv(run / "history.csv")
        assert config["method"] == {"name": "orthogonal", "factor": 1e-3, "longest": 2.0}
        assert history["penalty"].iloc[-1] > 0
        if config["setting"] == "stripes_mlp":
            assert (config["model"]["name"], config["data"]["name"]) == ("mlp", "stripes")
            assert history["test_accuracy"].iloc[-1] > 0.8


def test_a_model_and_a_data_set_are_choices_for_other_settings(tree: Path, tmp_path: Path) -> None:
    for group, name in (("model", "mlp"), ("data", "stripes")):
        (tree / f"configs/{group}/{name}.yaml").write_text(f"name: {name}\n")
    (line,) = (line for line in recipe.TEXT.splitlines() if "model=mlp" in line)
    words = line.strip("`.").split()[1:]
    shown(*words, *SHORT, "train.epochs=1", "measure.hessian=false", f"results={tmp_path}", cwd=tree)
    (config,) = (yaml.safe_load(path.read_text()) for path in tmp_path.glob("runs/single/*/config.yaml"))
    assert (config["model"]["name"], config["data"]["name"]) == ("mlp", "stripes")


def test_the_figure_is_drawn_and_on_the_page(results: Path) -> None:
    drawn = command(results.parent, "figures")
    assert all((results / f"first/figureloss.{kind}").is_file() for kind in ("png", "pdf", "csv", "txt")), drawn
    assert (results / "first/figureloss.txt").read_text().startswith("Training loss. In nats, by epoch.")
    numbers = pd.read_csv(results / "first/figureloss.csv")
    assert set(zip(numbers["method"], numbers["batch_size"], strict=True)) == {
        (method, size) for method in ("vanilla", "orthogonal") for size in (10, 100)
    }
    command(results.parent, "report")
    page = (results / "first/report.html").read_text()
    assert "figloss" in page
    assert page.count("training loss") == 1  # the label of the panel's axis
