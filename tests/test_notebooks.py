"""The notebooks run from top to bottom on records, and are stored without outputs."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from synthetic import write_grid

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_grid(tmp_path / "results" / "runs" / "demo", ("digits_densenet",), seeds=(0, 1), epochs=6)
    monkeypatch.setenv("SNS_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("SNS_EXPERIMENT", raising=False)
    return tmp_path / "results"


def test_both_notebooks_are_there() -> None:
    assert [path.name for path in NOTEBOOKS] == ["explore.ipynb", "method.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_stripped(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("explore", ("digits_densenet", "DenseNet, digits", "Judged on digits_densenet", "image/png")),
        ("method", ("reshaped 16 x 72", "update 400", "exact: ")),
    ],
)
def test_a_notebook_runs_to_its_end(name: str, said: tuple[str, ...], results: Path) -> None:
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    before = sorted(results.rglob("*"))
    resources = {"metadata": {"path": str(ROOT / "notebooks")}}
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources=resources).execute()
    shown = "\n".join(str(output) for cell in notebook.cells for output in cell.get("outputs", []))
    assert [text for text in said if text not in shown] == []
    assert sorted(results.rglob("*")) == before
