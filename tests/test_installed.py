"""The project as a wheel, in a folder that has nothing of the checkout."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from importlib import metadata
from pathlib import Path

import pytest
from conftest import ROOT, TINY
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from sns.__main__ import EXTRAS
from sns.common.folders import project_folder
from sns.record.commit import commit

PARTS = (
    "sns",
    "hydra_plugins",
    "configs",
    "scripts",
    "results/paper",
    "results/bakeoff",
    "results/sngan",
    "setup.py",
    "pyproject.toml",
    "README.md",
)
QUICK = ["train.epochs=1", "measure.hessian=false", "measure.spectra=false"]


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def closure(*lines: str) -> set[str]:
    """The installed distributions that these requirements need, directly or not, by name."""
    found: set[tuple[str, str]] = set()  # with one extra each
    waiting = [Requirement(line) for line in lines]
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        own = name == PROJECT["name"]
        for extra in {"", *wanted.extras}:
            if (name, extra) not in found:
                found.add((name, extra))
                inner = PROJECT["optional-dependencies"].get(extra, ()) if own else metadata.requires(name) or ()
                rules = [Requirement(line) for line in inner]
                waiting += [r for r in rules if r.marker is None or r.marker.evaluate({"extra": extra})]
    return {name for name, _ in found if name != PROJECT["name"]}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("wheel")
    for part in PARTS:
        (place / "source" / part).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, place / "source" / part)
    build = "import setuptools.build_meta as backend; backend.build_wheel('..')"
    subprocess.run([sys.executable, "-c", build], cwd=place / "source", check=True, capture_output=True)
    (built,) = place.glob("*.whl")
    return built


def environment(place: Path) -> Path:
    """The site-packages of a new environment in `place`."""
    venv.create(place, symlinks=True)
    (packages,) = place.glob("lib/python*/site-packages")
    return packages


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the wheel; torch and the others are those of this
    one."""
    place = tmp_path_factory.mktemp("env")
    packages = environment(place)
    (packages / "layer.pth").write_text(sysconfig.get_path("purelib") + "\n")
    shutil.unpack_archive(wheel, packages, "zip")  # all that an installer does with a wheel of pure Python
    return place / "bin/python"


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with torch, what torch requires, and the wheel, installed
    by pip without an index: it would refuse if the wheel required more."""
    place = tmp_path_factory.mktemp("bare")
    packages = environment(place)
    for name in closure("torch"):
        distribution = metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            if not (packages / top).exists():
                (packages / top).symlink_to(distribution.locate_file(top))  # type: ignore[arg-type]
    pip = [sys.executable, "-m", "pip", f"--python={place / 'bin/python'}", "install", "--no-index", str(wheel)]
    subprocess.run(pip, check=True, capture_output=True)
    return place / "bin/python"


def sns(python: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(python, folder, "-m", "sns", *arguments)


def run(python: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [str(python), *arguments]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)


EXAMPLE = """
from importlib.util import find_spec
absent = [name for name in ("numpy", "omegaconf", "scipy", "pandas", "pydantic", "yaml") if find_spec(name)]
assert not absent, absent
import sns
assert sns.__file__.startswith(sys.prefix), sns.__file__
first = penalty().item()
assert isinstance(first, float) and first > 0
print(sns.sigma(model), sns.spectrum(model))
conv = torch.nn.Conv2d(3, 4, 3)
print(sns.sigma(conv, operator=True, input_shape=(3, 16, 16)))
sns.SpectralNormPenalty(conv, operator=True, input_shape=(3, 16, 16))().backward()
"""


def readme_example() -> str:
    """The code in README that other projects copy."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return str(code)


def test_the_example_runs_with_torch_alone(bare: Path, tmp_path: Path) -> None:
    done = run(bare, tmp_path, "-c", f"import sys\n{readme_example()}{EXAMPLE}")
    assert done.returncode == 0, done.stderr
    typed = bare.parents[1].glob("lib/python*/site-packages/sns/py.typed")
    assert len(list(typed)) == 1


@pytest.mark.parametrize(("name", "extra"), [("train", "train"), ("table1", "report"), ("sync", "track")])
def test_a_command_without_its_packages_names_the_extra(bare: Path, tmp_path: Path, name: str, extra: str) -> None:
    done = sns(bare, tmp_path, name)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(rf"error: {name} needs \w+, which is not installed: pip install '(.*)'\n", done.stderr)
    assert f"'{PROJECT['name']}[{extra}]'" in done.stderr


@pytest.mark.parametrize("extra", sorted(set(EXTRAS.values())))
def test_an_extra_has_what_its_commands_import(extra: str, tmp_path: Path) -> None:
    """All that they import at their start: every other installed package is hidden."""
    has = closure("torch", f"{PROJECT['name']}[{extra}]")
    owners = metadata.packages_distributions()
    hidden = {module for module, names in owners.items() if not has & set(map(canonicalize_name, names))}
    hidden -= {"sns", "scripts", "hydra_plugins"}
    scripts = [str(ROOT / "scripts" / f"{name}.py") for name, wanted in EXTRAS.items() if wanted == extra]
    code = f"""
import runpy, sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {hidden!r}:
            raise ModuleNotFoundError(f"{{name}} is hidden", name=name)
sys.meta_path.insert(0, Hidden())
sys.path.insert(0, {str(ROOT / "scripts")!r})
for script in {scripts!r}:
    runpy.run_path(script)
"""
    assert "pytest" in hidden
    done = run(Path(sys.executable), ROOT, "-c", code)
    assert done.returncode == 0, done.stderr


def test_every_command_has_an_extra() -> None:
    assert set(EXTRAS) == {path.stem for path in (ROOT / "scripts").glob("*.py")}


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
    assert wrong.stderr.startswith("error: there is no command trian; choose one of bakeoff, ")


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
