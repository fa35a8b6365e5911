"""The training command: errors in one sentence, sweeps that continue, no half-written file."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, TINY

FAST = [*TINY, "measure.hessian=false", "measure.spectra=false"]


def train(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts/train.py"), *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("method.lamda=1", "lamda"),
        ("train.epochs=x", "train.epochs"),
        ("batch.size=0", "batch.size=0 must be positive"),
        ("data=npz data.path=/nowhere/x.npz", "/nowhere/x.npz"),
        ("data=cifar10 data.download=false data.root=/nowhere", "/nowhere"),
        ("train.device=cuda:77", "train.device"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path: Path, override: str, says: str) -> None:
    done = train(*FAST, "data.subset=null", "data.test_subset=null", f"results={tmp_path}", *override.split())
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("result.json"))


def test_a_sweep_skips_what_is_done_and_survives_a_bad_combination(tmp_path: Path) -> None:
    sweep = ["-m", *FAST, f"results={tmp_path}", "seed=0,1", "train.epochs=1"]
    done = train(*sweep, "data.subset=100,100000")
    assert done.returncode == 1
    assert "100000" in done.stderr
    results = sorted(tmp_path.rglob("result.json"))
    assert len(results) == 2
    before = [path.stat().st_mtime_ns for path in results]
    again = train(*sweep, "data.subset=100")
    assert again.returncode == 0
    assert [path.stat().st_mtime_ns for path in results] == before


def test_help_explains_the_groups(tmp_path: Path) -> None:
    done = train("--help")
    assert done.returncode == 0
    for word in ("setting", "method", "spectral", "vgg_cifar10", "experiment"):
        assert word in done.stdout


def _little_room() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # writing more fails as a full disk does


def test_a_full_disk_is_one_sentence_and_the_sweep_continues(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts/train.py"), "-m", *FAST, f"results={tmp_path}", "seed=0,1"],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=_little_room,
    )
    assert done.returncode == 1
    assert done.stderr.count("cannot be written") == 2  # both runs were tried
    assert "make room" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("result.json"))
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_python_on_which_hydra_does_not_start_is_one_sentence() -> None:
    start = f"import sys; sys.path.insert(0, {str(ROOT / 'scripts')!r}); import train"
    code = f"{start}; sys.version_info = (3, 14); sys.exit(train.main())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        1,
        "error: Hydra does not start on Python 3.14; use Python 3.11 to 3.13\n",
    )
