"""Import order, method names outside their package, and lengths, checked on the syntax trees."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

ORDER = [
    "common",
    "config",
    "record",
    "linalg",
    "data",
    "model",
    "method",
    "optim",
    "measure",
    "task",
    "analysis",
    "track",
    "train",
    "launch",
]
FILES = sorted((ROOT / "sns").rglob("*.py"))
NAMELESS = [
    path for path in FILES if path.relative_to(ROOT / "sns").parts[0] in ("train", "task", "measure", "data", "model")
]
METHOD_WORDS = {"spectral", "decay", "adversarial"}
LIMITS = {"function": 60, "file": 320}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported(tree: ast.AST) -> Iterator[str]:
    """Dotted names of all modules that `tree` imports, wherever the statement stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import hides its direction"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def package_of(path: Path) -> str:
    parts = path.relative_to(ROOT / "sns").parts
    return parts[0]


def forbidden_imports(package: str, source: str) -> list[str]:
    """The sns modules that a module of `package` imports against the order."""
    allowed = {*ORDER[: ORDER.index(package) + 1], "__version__"}
    names = [name.split(".") for name in imported(ast.parse(source))]
    return [".".join(n) for n in names if n[0] == "sns" and n[1] not in allowed]


@pytest.mark.parametrize("path", [p for p in FILES if p.parent.name != "sns"], ids=name_of)
def test_imports_go_one_way(path: Path) -> None:
    assert forbidden_imports(package_of(path), path.read_text()) == []


def test_the_order_names_every_package_and_is_the_one_that_readme_states() -> None:
    assert {path.parent.name for path in (ROOT / "sns").glob("*/__init__.py")} == set(ORDER)
    stated = (ROOT / "README.md").read_text().partition("Import order")[2].partition("```")[2]
    assert stated.partition("```")[0].split() == ORDER


@pytest.mark.parametrize("path", [p for p in FILES if package_of(p) in ("analysis", "record", "track")], ids=name_of)
def test_records_are_read_without_torch(path: Path) -> None:
    if path.name != "environment.py":
        assert "torch" not in {name.split(".")[0] for name in imported(ast.parse(path.read_text()))}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_slow_libraries_are_imported_where_they_are_used(path: Path) -> None:
    top = [node for node in ast.parse(path.read_text()).body if isinstance(node, (ast.Import, ast.ImportFrom))]
    roots = {name.split(".")[0] for node in top for name in imported(node)}
    assert not roots & {"torchvision", "sklearn", "wandb"}


def method_names(source: str) -> set[str]:
    """Method names in the code: words of identifiers, modules and texts, docstrings excluded."""
    tree = ast.parse(source)
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "weight_decay":
            continue  # an argument of torch's own
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            texts.append(node.value)
        texts += [getattr(node, field) for field in ("id", "attr", "name", "arg", "module") if _text(node, field)]
    words = {word for text in texts for word in re.split(r"[^a-z]+", text.lower())}
    return words & METHOD_WORDS


def _text(node: ast.AST, field: str) -> bool:
    return isinstance(getattr(node, field, None), str)


@pytest.mark.parametrize("path", NAMELESS, ids=name_of)
def test_no_method_is_named_outside_its_package(path: Path) -> None:
    """Only words that name a method count; `norm`, `weight` and the like are terms of the field."""
    assert method_names(path.read_text()) == set()


ACCELERATOR = ROOT / "sns/common/accelerator.py"
CODE = sorted(path for folder in ("sns", "hydra_plugins", "scripts", "bench") for path in (ROOT / folder).rglob("*.py"))


def asks_cuda(source: str) -> list[str]:
    """Uses of torch.cuda, and comparisons of a device's type with "cuda"."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "torch.cuda":
            found.append(f"line {node.lineno}: torch.cuda")
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            types = any(isinstance(side, ast.Attribute) and side.attr == "type" for side in sides)
            if types and any(isinstance(side, ast.Constant) and side.value == "cuda" for side in sides):
                found.append(f"line {node.lineno}: a device's type")
    return found + ["imports torch.cuda" for name in imported(ast.parse(source)) if name.startswith("torch.cuda")]


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_one_file_knows_the_types_of_gpus(path: Path) -> None:
    assert bool(asks_cuda(path.read_text())) == (path == ACCELERATOR)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_functions_and_files_stay_short(path: Path) -> None:
    source = path.read_text()
    assert len(source.splitlines()) <= LIMITS["file"]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < LIMITS["function"], node.name


def test_the_rules_catch_what_they_are_for() -> None:
    assert forbidden_imports("model", "from sns.method.base import Method") == ["sns.method.base.Method"]
    assert forbidden_imports("analysis", "def f():\n    from sns import train") == ["sns.train"]
    assert len(asks_cuda("import torch\nif torch.cuda.is_available() or d.type != 'cuda': pass")) == 2
    assert asks_cuda("from torch.cuda import Stream") == ["imports torch.cuda"]
    assert asks_cuda("torch.backends.cuda.matmul; device == 'cuda'") == []
    assert method_names("if name == 'spectral': pass") == {"spectral"}
    assert method_names("def f():\n    'spectral'\n    # decay\n    return x.norm()") == set()
    assert method_names("weight_decay = 1") == {"decay"}
    assert method_names("sgd(weight_decay=0.0)") == set()
