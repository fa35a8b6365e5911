"""Every command line of the documentation is parsed: overrides compose, arguments and make's
variables exist."""

import argparse
import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import pytest
from conftest import ROOT, compose_tree
from hydra import compose, initialize_config_dir

from sns.common.command import Parser
from sns.config.compose import checked
from sns.launch import slurm
from sns.launch.sweep import CONFIGS, dry_run
from sns.train.configure import configure

PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "results/README.md", ROOT / "bench/README.md"]
PAGES += [*ROOT.glob("configs/**/*.yaml"), *ROOT.glob("scripts/*.py"), *ROOT.glob("sns/**/*.py")]
START = re.compile(
    r"(?:(?:^|[\s`(])(?:\.venv/bin/)?(?=python)|(?:^    |`)(?=make))"
    r"(python scripts/[a-z]\w+\.py|make [a-z0-9-]+(?= |$|`))([^\n]*)",
    re.MULTILINE,
)
PLACES = {"$setting": "vgg_cifar10", "$(mktemp -d)": "x", "FILE.npz": "x.npz", "partition=NAME": "partition=x"}
RECIPE = ("method=orthogonal", "model=mlp", "setting=stripes_mlp", "experiment=first", "=mine", "setting=parity")


def commands() -> list[tuple[str, str]]:
    """(page, command line), each command once; comments, output and shell around it removed."""
    found: dict[str, str] = {}
    for page in PAGES:
        for command in commands_in(page.read_text(encoding="utf-8")):
            found.setdefault(command, str(page.relative_to(ROOT)))
    return [(page, command) for command, page in found.items()]


def commands_in(text: str) -> Iterator[str]:
    """The command lines of a page."""
    for match in START.finditer(re.sub(r"\\\n\s*", "", text)):  # lines that go on
        words = match.group(2).split("`")[0]
        yield match.group(1) + re.split(r"\s+#|\s[|&>]|;|\s{3,}|\s->|\)[.,:]", words)[0].rstrip(" .,:")


COMMANDS = commands()
TRAIN = [c for c in COMMANDS if re.match(r"python scripts/(train|plan)\.py", c[1])]
MAKE = [c for c in COMMANDS if c[1].startswith("make ")]
OTHERS = [c for c in COMMANDS if c not in TRAIN and c not in MAKE]


def test_there_are_commands_of_every_kind() -> None:
    assert len(TRAIN) > 20
    assert len(MAKE) > 20
    assert {Path(shlex.split(c)[1]).stem for _, c in OTHERS} >= {"table1", "figures", "status", "verify", "watch"}


@pytest.mark.parametrize(("page", "command"), TRAIN)
def test_the_overrides_compose(page: str, command: str) -> None:
    if any(word in command for word in RECIPE) and page == "CONTRIBUTING.md":
        pytest.skip("tests/test_contributing.py runs it, with the files of that page")
    for place, value in PLACES.items():
        command = command.replace(place, value)
    words = [word for word in shlex.split(command)[2:] if word not in ("--help", "...")]
    if any(word.startswith("GROUP=") or "[Hydra" in word for word in words):
        pytest.skip("the pattern of a command, with words for the reader to replace")
    flags, overrides = [w for w in words if w.startswith("-")], [w for w in words if not w.startswith("-")]
    assert set(flags) <= {"-m"}
    if (
        "hydra/launcher=submitit" in overrides
        and importlib.util.find_spec("hydra_plugins.hydra_submitit_launcher") is None
    ):
        pytest.skip("needs hydra-submitit-launcher, which the project does not require")
    if flags or "plan.py" in command:
        runs, errors = dry_run(overrides)
        assert runs
        assert errors == []
    else:
        configure(compose_tree(*overrides))


@pytest.mark.parametrize("sign", ["", "+"])
def test_any_option_of_sbatch_may_be_set(sign: str) -> None:
    text = (ROOT / "docs/cluster.md").read_text()
    (documented,) = re.findall(r"`'(hydra\.launcher\.options=\{[^`]*\})'`", text)
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        tree = compose("config", ["hydra/launcher=slurm", sign + documented], return_hydra_config=True)
    values = {key: value for key, value in tree.hydra.launcher.items() if key != "_target_"}
    options = checked("hydra.launcher", slurm.Options, values)
    asked = slurm.arguments(options, 2, Path("/r/runs/x/slurm/y"))
    assert {"--exclude=node7", "--gres=gpu:a100:1"} <= set(asked)


def main_of(script: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], int]:
    """`main` of scripts/..., without the report of errors."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    spec = importlib.util.spec_from_file_location(f"documented_{Path(script).stem}", ROOT / script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, "argv", [script])
    main: Callable[[list[str]], int] = getattr(module.main, "__wrapped__", module.main)
    return main


@pytest.mark.parametrize("script", sorted({path.name for path in ROOT.glob("scripts/*.py")} - {"train.py"}))
def test_help_describes_every_argument_and_shows_commands_that_are_tested(
    script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[argparse.Action] = []
    add = argparse.ArgumentParser._add_action

    def noted(self: argparse.ArgumentParser, action: argparse.Action) -> argparse.Action:
        made.append(action)
        return add(self, action)

    monkeypatch.setattr(argparse.ArgumentParser, "_add_action", noted)
    monkeypatch.setenv("COLUMNS", "100")
    with suppress(SystemExit):
        assert main_of(f"scripts/{script}", monkeypatch)(["--help"]) == 0
    page = capsys.readouterr().out
    assert page.startswith("usage: ") or script == "plan.py"  # its words are Hydra's
    assert [action.dest for action in made if not action.help] == []
    assert set(commands_in(page)) <= {command for _, command in COMMANDS}
    assert ("python scripts/" in page) == bool(list(commands_in(page)))


def test_the_tests_of_each_promise_exist() -> None:
    rows = re.findall(r"^\|.*\|$", (ROOT / "docs/reliability.md").read_text(), re.MULTILINE)
    files = [re.findall(r"[\w/]+\.py", row.split("|")[3]) for row in rows[2:]]
    assert all(files)
    assert [file for row in files for file in row if not (ROOT / "tests" / file).is_file()] == []


class Parsed(Exception):  # noqa: N818
    """The arguments are fine."""


@pytest.mark.parametrize(("page", "command"), OTHERS)
def test_the_arguments_parse(page: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, script, *words = shlex.split(re.sub(r"[\[\]|]|\.\.\.", " ", command))
    for name in ("parse_args", "parse_intermixed_args"):
        parse = getattr(argparse.ArgumentParser, name)

        def end(self: Parser, arguments: Any, parse: Any = parse) -> NoReturn:
            parse(self, arguments)
            raise Parsed

        monkeypatch.setattr(argparse.ArgumentParser, name, end)
    values = {"SECONDS": "5", "--every": "--every", "DIR": "x"}
    main, given = main_of(script, monkeypatch), [values.get(word, word) for word in words]
    with pytest.raises((Parsed, SystemExit)) as ended:
        main(given)
    assert ended.type is Parsed or (ended.value.code == 0 and "--help" in words)


@pytest.mark.parametrize(("page", "command"), MAKE)
def test_make_knows_the_target_and_the_variables(page: str, command: str) -> None:
    _, *words = shlex.split(command.replace("[", "").replace("]", ""))
    known = set(re.findall(r"^([A-Z0-9]+) [?:]?=", (ROOT / "Makefile").read_text(), re.MULTILINE))
    targets = [word for word in words if "=" not in word]
    assert {word.partition("=")[0] for word in words if "=" in word} <= known
    text = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{re.escape(target)}:", text, re.MULTILINE) for target in targets), targets
    for target in targets:
        assert subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, check=False).returncode == 0
