"""The kit for a machine without network works alone, and reports damage."""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from sns.common.errors import UserError
from sns.record.commit import commit
from tools.offline_kit import build

needs_git = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="a kit is built in a git checkout")
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
IMAGES = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), np.uint8)


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kit with a few images and without wheels: this environment has all."""
    folder = tmp_path_factory.mktemp("kit")
    y = np.arange(40) % 10
    np.savez(folder / "cifar10.npz", x_train=IMAGES, y_train=y, x_test=IMAGES, y_test=y, not_exact=np.arange(3))
    built = folder / "a kit"
    arguments = ["--images", str(folder / "cifar10.npz"), "--no-wheels", "--python", PYTHON, "--part-mib", "0.01"]
    assert build.main(["--out", str(built), *arguments]) == 0
    return built


@pytest.fixture
def moved(kit: Path, tmp_path: Path) -> Path:
    """A fresh copy elsewhere."""
    return Path(shutil.copytree(kit, tmp_path / "elsewhere" / "kit"))


def call(kit: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """run.sh with nothing of this environment but PATH, from another folder."""
    bare = {"PATH": os.environ["PATH"], "HOME": str(kit.parent), "PYTHON3": sys.executable, "OMP_NUM_THREADS": "1"}
    command = [str(kit / "run.sh"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=bare | environment, cwd="/")


def refused(done: subprocess.CompletedProcess[str], message: str) -> None:
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


@needs_git
def test_the_kit_trains_alone(moved: Path) -> None:
    overrides = ["setting=digits_vgg", "data=npz", "train.epochs=0.2", "track=disabled"]
    overrides += ["model.widths=[[4],[4],[4]]", "model.dropout=[[0.0],[0.0],[0.0]]", "train.device=cpu"]
    overrides += ["measure.hessian=false", "measure.spectra=false", "batch.size=10", "experiment.name=kit"]
    done = call(moved, *overrides, "data.subset=null", "data.test_subset=null")
    assert done.returncode == 0, done.stderr
    (directory,) = (moved / "results" / "runs" / "kit").glob("digits_vgg__*")
    environment = json.loads((directory / "result.json").read_text())["environment"]
    assert environment["data"]["note"] == "CIFAR-10, 3 of 80 images from JPEG"
    head = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert (environment["commit"], environment["dirty"]) == (head.stdout.strip(), False)
    where = call(moved, "python", "-c", "import sns; print(sns.__file__)")
    assert where.stdout.strip() == str(moved / "work" / "source" / "sns" / "__init__.py")


@needs_git
def test_missing_or_damaged_files_are_reported(moved: Path) -> None:
    refused(call(moved, PYTHON3="/nowhere/python3"), "no /nowhere/python3; set PYTHON3")
    (moved / "base" / "python").write_text("2.7\n")
    refused(call(moved), f"missing or damaged in {moved}/base: python; copy the kit again")
    (moved / "base" / "source.tar.gz").unlink()
    refused(call(moved), "base: python source.tar.gz; copy")
    (moved / "base" / "SHA256SUMS").unlink()
    refused(call(moved), "SHA256SUMS is missing; copy the whole folder base")
    assert not (moved / "work" / "installed").exists()


def wheel(folder: Path, name: str, *requires: str, code: str = "") -> None:
    """A wheel of version 1.0 with one module; unpacked if `folder` is a site-packages."""
    info = f"{name}-1.0.dist-info"
    files = {f"{name}.py": code, f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"}
    lines = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0", *(f"Requires-Dist: {line}" for line in requires)]
    files[f"{info}/METADATA"] = "\n".join(lines) + "\n"
    files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in (*files, f"{info}/RECORD"))
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
        if folder.name == "machine":
            archive.extractall(folder)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a virtual environment with pip, on a machine that has two more packages."""
    folder = tmp_path_factory.mktemp("machine")
    wheel(folder / "machine", "fitted", "setuptools_of_another_time<1")  # as torch's metadata in a shared image
    wheel(folder / "machine", "spoiled", code="raise RuntimeError('built for another numpy.')")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    (site,) = (folder / "venv" / "lib").glob("python3*/site-packages")
    (site / "machine.pth").write_text(f"{folder}/machine\n{Path(pytest.__file__).parents[1]}\n")
    return folder / "venv" / "bin" / "python"


def installed(machine: Path, base: Path, *lines: str) -> subprocess.CompletedProcess[str]:
    (base / "wheels").mkdir(parents=True, exist_ok=True)
    (base / "requirements.txt").write_text("\n".join(lines) + "\n")
    command = [str(machine), "-m", "tools.offline_kit.install", str(base)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_only_what_the_kit_brings_pulls_in_its_dependencies(machine: Path, tmp_path: Path) -> None:
    """torch's metadata may ask for a setuptools and a cuDNN that a shared image does not have."""
    wheel(tmp_path / "wheels", "brought", "fitted>=0.5", "needed; python_version >= '3'", "tested; extra == 'dev'")
    wheel(tmp_path / "wheels", "needed")
    done = installed(machine, tmp_path, "fitted>=1", "brought>=1")
    assert (done.returncode, done.stderr) == (0, "")
    subprocess.run([str(machine), "-c", "import brought, needed"], check=True)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("fitted>=2", r"the packages of the machine and of the kit do not suffice (neither has fitted>=2); install it"),
        ("absent", r"the packages of the machine and of the kit do not suffice (neither has absent); install it"),
        ("spoiled", r"spoiled cannot be imported (built for another numpy); install it"),
    ],
)
def test_a_package_that_does_not_fit_is_one_sentence(machine: Path, tmp_path: Path, line: str, message: str) -> None:
    refused(installed(machine, tmp_path, line), message)


@needs_git
def test_another_python_is_refused(moved: Path) -> None:
    (moved / "base" / "python").write_text("2.7\n")
    sums = moved / "base" / "SHA256SUMS"
    old = hashlib.sha256(f"{PYTHON}\n".encode()).hexdigest()
    sums.write_text(sums.read_text().replace(old, hashlib.sha256(b"2.7\n").hexdigest()))
    refused(call(moved), f"is Python {PYTHON}, this kit is for 2.7; set PYTHON3")


@needs_git
def test_a_copy_without_git_states_its_commit_and_whether_it_was_changed(kit: Path, tmp_path: Path) -> None:
    with tarfile.open(kit / "base" / "source.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    head = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    tracked = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=True)
    extracted = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if not path.is_dir()}
    assert extracted == {*tracked.stdout.splitlines(), "COMMIT"} or commit(ROOT)["dirty"]
    assert commit(tmp_path) == {"commit": head.stdout.strip(), "dirty": False}
    (tmp_path / "README.md").write_text("changed")  # no code
    assert commit(tmp_path)["dirty"] is False
    file = tmp_path / "sns" / "__init__.py"
    text = file.read_text()
    file.write_text(text + "\n")
    assert commit(tmp_path) == {"commit": head.stdout.strip(), "dirty": True}
    file.unlink()
    assert commit(tmp_path)["dirty"] is True
    file.write_text(text)
    assert commit(tmp_path)["dirty"] is False
    (tmp_path / "COMMIT").write_text("")
    assert commit(tmp_path) == {"commit": None, "dirty": None}
    (tmp_path / "COMMIT").unlink()
    assert commit(tmp_path) == {"commit": None, "dirty": None}


@needs_git
def test_a_checkout_takes_precedence_over_the_stated_commit(tmp_path: Path) -> None:
    (tmp_path / "sns").mkdir()
    (tmp_path / "COMMIT").write_text("stated\n")
    assert commit(tmp_path)["commit"] == "stated"
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    assert commit(tmp_path)["commit"] is None


def test_the_kit_brings_what_the_machine_lacks() -> None:
    wanted, brought = build.requirements(build.HAS, ("wandb",))
    names = {build._name(line) for line in brought}
    assert {"hydra-core", "omegaconf", "plotly", "pytest"} <= names
    assert not names & {"torch", "torchvision", "numpy", "wandb"}
    assert {build._name(line) for line in wanted} >= {"torch", "numpy", "statsmodels", *names}
    assert "wandb" in {build._name(line) for line in build.requirements(build.HAS, ())[1]}
    assert not names & {"spectral-norm-regularization", "submitit", "tensorboard", "ruff"}
    assert "numpy>=1.26" in build.requirements(build.HAS[:2], ())[1]
    with pytest.raises(UserError, match="--without wandbb is no dependency"):
        build.requirements(build.HAS, ("wandbb",))


def test_transfers_hold_everything_once_below_the_limit(tmp_path: Path) -> None:
    sizes = {"run.sh": 10, "base/a": 300, "images/p.001": 500, "images/p.002": 500, "images/p.json": 100}
    for name, kib in sizes.items():
        (tmp_path / "kit" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "kit" / name).write_bytes(bytes(1024 * kib))
    folder = tmp_path / "kit-transfers"
    *parts, advice = build.split(tmp_path / "kit", 1.0)
    assert parts == [f"{folder}/1: 0.9 MiB", f"{folder}/2: 0.5 MiB"]
    assert "copy its files to one other folder" in advice
    assert [path.name for path in (folder / "2").rglob("*") if path.is_file()] == ["p.002"]
    for number in ("1", "2"):
        shutil.copytree(folder / number, tmp_path / "joined", dirs_exist_ok=True)
    for name, kib in sizes.items():
        assert (tmp_path / "joined" / name).stat().st_size == 1024 * kib
    lines = list(build.split(tmp_path / "kit", 0.1))
    assert any(line.startswith("warning: more than 0.1 MiB") for line in lines)


@needs_git
def test_a_failed_build_leaves_the_old_kit(kit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = Path(shutil.copytree(kit, tmp_path / "kit"))
    arguments = ["--no-wheels", "--out", str(out), "--images", str(tmp_path / "nothing.npz")]
    assert build.main(arguments) == 1
    assert capsys.readouterr().err.startswith("error: ")
    assert (out / "base" / "SHA256SUMS").is_file()
    (tmp_path / "other").mkdir()
    assert build.main(["--no-wheels", "--out", str(tmp_path / "other")]) == 1
    assert "exists and is not a kit" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kit", "other"]


@needs_git
def test_a_failed_download_of_wheels_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(UserError, match=r"the wheels could not be downloaded \(pip failed\)"):
        build.wheels(tmp_path, ["hydra-core"], "3.12")
    options = argparse.Namespace(has=build.HAS, without=[], python="3.12", no_wheels=False, images=[])
    with pytest.raises(UserError):
        list(build.build(tmp_path / "kit", options))
    assert list(tmp_path.iterdir()) == []
