"""Random command lines, results folders and streams: one sentence, a true exit code, no loss.

`make soak-faults CASES=5000` tries that many of each kind; `make test` few, always the same.
"""

import contextlib
import importlib
import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, TINY
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from synthetic import write_run

from sns.common.errors import UserError
from sns.config.compose import all_keys
from sns.launch.sweep import dry_run
from sns.train.configure import registered_options

CASES = int(os.environ.get("SNS_SOAK", "0"))
soak = settings(
    max_examples=CASES or 60,
    phases=[Phase.generate],
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
LINES = 5  # of an error
SCRIPTS = ("table1", "figures", "claims", "report", "summary", "scores", "status", "sensitivity", "verify", "sync")
VALUES = ["", "nan", "inf", "-1", "0", "1e999", "1e-9", "null", "{}", "[1]", "{a: b}", "${seed}", "${no}", "???", "a=b"]
VALUES += ["..", "../x", "/", "x/y", "é" * 300, "'", '"', "a b", "true", "9" * 40, "0x10", "1,2", "choice(1,2)", "\\"]
WORDS = [
    "--experiment",
    "--out",
    "--setting",
    "--accuracy",
    "--dry-run",
    "--nothing",
    "-m",
    "demo",
    "best",
    "..",
    "",
    "é",
]
json_values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.lists(st.integers(), max_size=2)
)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with two runs."""
    folder = tmp_path_factory.mktemp("records")
    for seed in (0, 1):
        write_run(folder / "runs" / "demo", seed=seed)
    return folder


class Full(io.TextIOWrapper):
    """A stream on a full disk."""

    def __init__(self) -> None:
        super().__init__(open("/dev/full", "wb", buffering=0), write_through=True)  # noqa: SIM115


def stream(kind: str) -> io.TextIOWrapper:
    if kind == "full":
        return Full()
    raw = tempfile.TemporaryFile("w+b", buffering=0)  # noqa: SIM115
    made = io.TextIOWrapper(raw, encoding="ascii" if kind == "ascii" else "utf-8", write_through=True)
    if kind == "closed":
        reader, writer = os.pipe()
        os.close(reader)
        made = io.TextIOWrapper(os.fdopen(writer, "wb", buffering=0), write_through=True)
    return made


@contextlib.contextmanager
def folder_of(kind: str, records: Path, spoilt: tuple[str, Any]) -> Iterator[Path]:
    """A results folder of this kind."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "results"
        if kind == "file":
            folder.write_text("mine")
        elif kind == "empty":
            folder.mkdir()
        elif kind == "link":
            shutil.copytree(records, Path(place) / "elsewhere")
            folder.symlink_to("elsewhere")
        elif kind != "missing":
            shutil.copytree(records, folder)
            _spoil(kind, next(folder.glob("runs/demo/*")), spoilt)
        yield folder


def _spoil(kind: str, run: Path, spoilt: tuple[str, Any]) -> None:
    key, value = spoilt
    file = run / "result.json"
    if kind == "foreign":
        content = json.loads(file.read_text())
        names = sorted(content)
        content[names[hash_of(key) % len(names)]] = value
        file.write_text(json.dumps(content))
    elif kind == "cut":
        victim = sorted(path for path in run.iterdir() if path.is_file())[hash_of(key) % 3]
        victim.write_bytes(victim.read_bytes()[: hash_of(repr(value)) % 200])
    elif kind == "out is a file":
        (run.parents[2] / "demo").write_text("mine")


def hash_of(text: str) -> int:
    return sum(text.encode("utf-8", "surrogatepass"))


@contextlib.contextmanager
def as_the_process(*streams: io.TextIOWrapper) -> Iterator[None]:
    """These are stdout and stderr, as a command finds them."""
    names = ("stdout", "stderr")
    before = {name: getattr(sys, name) for word in names for name in (word, f"__{word}__")}
    try:
        for name, made in zip(names, streams, strict=True):
            setattr(sys, name, made)
            setattr(sys, f"__{name}__", made)
        yield
    finally:
        for made in (sys.stdout, sys.stderr, *streams):
            with contextlib.suppress(OSError, ValueError):
                made.flush()
        for name, made in before.items():
            setattr(sys, name, made)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.parent.rglob("*") if path.is_file()}


KINDS = ["missing", "empty", "file", "link", "good", "foreign", "cut", "out is a file"]


@soak
@given(
    script=st.sampled_from(SCRIPTS),
    words=st.lists(st.sampled_from(WORDS), max_size=2),
    kind=st.sampled_from(KINDS),
    spoilt=st.tuples(st.text(max_size=4), json_values),
    out=st.sampled_from(["fine", "fine", "closed", "full", "ascii"]),
    err=st.sampled_from(["fine", "fine", "closed", "full", "ascii"]),
)
def test_commands(
    records: Path, script: str, words: list[str], kind: str, spoilt: tuple[str, Any], out: str, err: str
) -> None:
    with folder_of(kind, records, spoilt) as folder:
        before, here = contents(folder), Path.cwd()
        sys.path.insert(0, str(ROOT / "scripts"))
        streams = (stream(out), stream(err))
        try:
            os.chdir(folder.parent)
            main = importlib.import_module(script).main
            with as_the_process(*streams):
                try:
                    code = main([str(folder), *words])
                except SystemExit as end:
                    code = end.code
        finally:
            os.chdir(here)
            sys.path.pop(0)
        assert code in (0, 1, 75), code
        after = contents(folder)
        kept = [name for name in before if "/runs/" in name or name.endswith("results")]
        assert all(after.get(name) == before[name] for name in kept)
        assert not [name for name in after if name.endswith(".tmp")]
        if code == 1 and err == "fine":
            streams[1].buffer.seek(0)
            lines = streams[1].buffer.read().decode().splitlines()
            assert not any(line.startswith("Traceback") for line in lines)
            assert len(lines) <= LINES or script == "figures"  # which has a line for each figure
            assert lines or out != "fine" or script in ("figures", "verify")


@soak
@given(
    pairs=st.lists(
        st.tuples(
            st.sampled_from(all_keys(registered_options(), ["hydra/launcher", "~seed", "+new"])),
            st.sampled_from(VALUES),
        ),
        min_size=1,
        max_size=2,
    )
)
def test_overrides(pairs: list[tuple[str, str]]) -> None:
    overrides = [*TINY, *(f"{key}={value}" for key, value in pairs)]
    try:
        runs, errors = dry_run(overrides)
    except UserError as error:
        runs, errors = [], [str(error)]
    assert all(len(error.splitlines()) <= LINES for error in errors)
    for run in runs:
        assert run.config.directory.name == run.config.run_id
