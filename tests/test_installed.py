"""The project as a wheel, in a folder that has nothing of the checkout."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from conftest import ROOT, TINY

from sns.common.folders import project_folder
from sns.record.commit import commit

PARTS = ("sns", "hydra_plugins", "configs", "scripts", "results/paper", "setup.py", "pyproject.toml", "README.md")
QUICK = ["train.epochs=1", "measure.hessian=false", "measure.spectra=false"]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the wheel; torch and the others are those of this
    one."""
    place = tmp_path_factory.mktemp("wheel")
    for part in PARTS:
        (place / "source" / part).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, place / "source" / part)
    build = "import setuptools.build_meta as backend; backend.build_wheel('..')"
    subprocess.run([sys.executable, "-c", build], cwd=place / "source", check=True, capture_output=True)
    venv.create(place / "env", symlinks=True)
    packages = next((place / "env/lib").glob("python*/site-packages"))
    (packages / "layer.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (wheel,) = place.glob("*.whl")
    shutil.unpack_archive(wheel, packages, "zip")  # all that an installer does with a wheel of pure Python
    return place / "env/bin/python"


def sns(python: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [str(python), "-m", "sns", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_wheel_trains_and_shows_from_an_empty_folder(python: Path, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(python.parents[1])], check=True)  # somebody's own repository around it
    one = ["experiment=demo", "batch=small", "method=spectral"]
    done = sns(python, tmp_path, "train", "-m", *TINY, *QUICK, *one)
    assert (done.returncode, done.stderr) == (0, "")
    (file,) = tmp_path.glob("results/runs/demo/*/result.json")
    result = json.loads(file.read_text())
    assert result["command"].startswith("python -m sns train ")
    assert result["environment"]["commit"] is None
    table = sns(python, tmp_path, "table1", "--all-cells")  # the paper's numbers too
    assert (table.returncode, table.stderr) == (0, "")
    assert "paper 0.904" in table.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_a_wheel_holds_all_that_the_commands_read(python: Path) -> None:
    (package,) = python.parents[1].glob("lib/python*/site-packages/sns")
    for name in ("configs", "scripts", "results/paper"):
        here, there = (
            {path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"}
            for folder in (project_folder(name), package / name)
        )
        assert there == here
    assert {path.name for path in package.rglob("*.j2")} == {path.name for path in (ROOT / "sns").rglob("*.j2")}
    assert (package / "launch" / "job.sh").is_file()


def test_python_m_sns_lists_its_commands_and_knows_no_other(python: Path, tmp_path: Path) -> None:
    shown = sns(python, tmp_path)
    assert shown.returncode == 0
    assert all(path.stem in shown.stdout for path in (ROOT / "scripts").glob("*.py"))
    wrong = sns(python, tmp_path, "trian")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert wrong.stderr.startswith("error: there is no command trian; choose one of claims, ")


def test_a_checkout_states_its_own_commit(tmp_path: Path) -> None:
    (tmp_path / "sns").mkdir()
    (tmp_path / "sns/__init__.py").touch()
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "theirs"]):
        subprocess.run([*git, *words], check=True)
    assert commit(tmp_path) == {"commit": None, "dirty": None}  # git does not know this file
    for words in (["add", "sns"], ["commit", "-q", "-m", "ours"]):
        subprocess.run([*git, *words], check=True)
    assert commit(tmp_path)["dirty"] is False
