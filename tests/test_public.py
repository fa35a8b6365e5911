"""What `from sns import ...` gives: its names, what it imports, the examples that show it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from mypy import api
from test_installed import readme_example

import sns
from sns import drop_in

NAMES = sorted(name for name in vars(drop_in) if not name.startswith("_"))


def top_level(code: str) -> set[str]:
    """The top-level modules outside the standard library that `code` imports after `import torch`
    in a new process."""
    script = f"import sys; import torch; before = set(sys.modules)\n{code}\nprint(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()} - sys.stdlib_module_names


def test_nothing_but_torch_is_imported() -> None:
    assert top_level(f"from sns import {', '.join(NAMES)}") == {"sns"}


def test_torch_is_imported_at_the_first_use_only() -> None:
    code = (
        "import sys, sns; from sns import record, analysis; assert 'torch' not in sys.modules; sns.sigma; import torch"
    )
    subprocess.run([sys.executable, "-c", f"{code}; assert 'torch' in sys.modules"], cwd=ROOT, check=True)


def test_the_names_are_listed() -> None:
    assert {"SpectralNormPenalty", "sigma", "spectrum"} <= set(NAMES)
    assert sns.__all__ == NAMES
    assert set(NAMES) <= set(dir(sns))
    assert all(getattr(sns, name) is getattr(drop_in, name) for name in NAMES)
    for absent in ("Spectral", "absent"):
        with pytest.raises(AttributeError, match=f"module 'sns' has no attribute '{absent}'"):
            getattr(sns, absent)


def test_the_names_have_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "theirs.py"
    file.write_text(f"from sns import {', '.join(NAMES)}, Absent\nreveal_type(SpectralNormPenalty.__call__)\n")
    monkeypatch.chdir(ROOT)
    shown, _, _ = api.run(["--strict", str(file)])
    assert 'Revealed type is "def (self: sns.method.penalty.SigmaPenalty) -> torch._tensor.Tensor"' in shown
    (wrong,) = [line for line in shown.splitlines() if " error: " in line]
    assert 'Module "sns" has no attribute "Absent"' in wrong


def test_the_example_of_readme_lowers_the_norms() -> None:
    torch.manual_seed(0)
    code = readme_example()
    assert code.count("\n") <= 14
    names: dict[str, object] = {}
    exec(code, names)
    torch.manual_seed(0)
    free: dict[str, object] = {}
    exec(code.replace("factor=0.01", "factor=0.0"), free)
    with_penalty, without = sns.sigma(names["model"]), sns.sigma(free["model"])  # type: ignore[arg-type]
    assert all(with_penalty[name] < without[name] for name in with_penalty)


def test_the_tests_that_docs_name_exist() -> None:
    text = (ROOT / "docs/drop_in.md").read_text()
    named = set(re.findall(r"\b\w+/\w+\.py", text))
    assert len(named) == 5
    assert all((ROOT / "tests" / name).is_file() for name in named)
    assert len(text.split()) <= 350
