"""The method that CONTRIBUTING.md shows is sound: it is typed, tidy, and trains."""

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, TINY, compose_tree
from omegaconf import OmegaConf

from sns.method import METHODS
from sns.train.configure import configure
from sns.train.run import run

BLOCKS = re.compile(r"```(python|yaml)\n# (\S+)\n(.*?)```", re.DOTALL)


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The blocks of the example as files, by language."""
    folder, files = tmp_path_factory.mktemp("example"), {}
    for language, place, content in BLOCKS.findall((ROOT / "CONTRIBUTING.md").read_text()):
        files[language] = folder / Path(place).name
        files[language].write_text(content)
    assert files.keys() == {"python", "yaml"}
    return files


@pytest.mark.parametrize(
    "tool", [("mypy", "--strict", "--follow-imports=silent"), ("ruff", "check")], ids=lambda tool: tool[0]
)
def test_the_example_passes_the_checks(example: dict[str, Path], tool: tuple[str, ...]) -> None:
    settings = f"--config{'=' if tool[0] == 'ruff' else '-file='}{ROOT / 'pyproject.toml'}"
    command = [sys.executable, "-m", *tool, settings, str(example["python"])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def registered(example: dict[str, Path]) -> Iterator[None]:
    spec = importlib.util.spec_from_file_location("orthogonal_example", example["python"])
    assert spec is not None
    assert spec.loader is not None
    before = dict(METHODS)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield
    METHODS.clear()
    METHODS.update(before)


@pytest.mark.usefixtures("registered")
def test_the_example_trains(example: dict[str, Path], tmp_path: Path) -> None:
    tree = compose_tree(*TINY, f"results={tmp_path}", "train.epochs=1")
    OmegaConf.set_struct(tree, False)
    tree.method = yaml.safe_load(example["yaml"].read_text())
    result = run(configure(tree))
    assert result.status == "ok"
    assert result.method == "orthogonal"
    assert result.final["penalty"] > 0
