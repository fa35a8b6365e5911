"""docs/reproduction.md agrees with results/paper/departures.yaml and with the code.

Its fields, files and functions exist, and a command prints its numbers.
"""

import ast
import re
import runpy
import shlex
from typing import Any

import pytest
import yaml
from conftest import ROOT, compose_tree
from hydra import compose, initialize_config_dir

from sns.config.compose import all_keys
from sns.method.published import ALGORITHMS
from sns.method.spectral import CORRECTED
from sns.train.configure import configure, registered_options

PAGE = re.sub(r"\n +", " ", (ROOT / "docs/reproduction.md").read_text(encoding="utf-8"))  # a list entry is one line
DEPARTURES = yaml.safe_load((ROOT / "results/paper/departures.yaml").read_text(encoding="utf-8"))
CHOICES: list[dict[str, Any]] = DEPARTURES["choices"]
ERRATA: list[dict[str, Any]] = DEPARTURES["errata"]
OTHERS = [override for choice in CHOICES for override in choice.get("others", [])]
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[+-]\d+)?(?!\w)")
TOLERANCE = 0.02  # relative; other versions and processors differ in the last digits only


README = (ROOT / "README.md").read_text(encoding="utf-8")
CHOICE = re.compile(r"^- \*\*(.+?)\*\* \((.+?)\): (.+)$", re.MULTILINE)  # what, how sure, the rest
ERRATUM = re.compile(r"^(\d|-)\.? \*\*(.+?)\.\*\* (.+)$", re.MULTILINE)  # number, where, the rest


def section(title: str) -> str:
    """The page's text under the heading `## title`."""
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def spans() -> list[str]:
    """The page's inline code."""
    return re.findall(r"`([^`\n]+)`", PAGE)


def existing_fields() -> set[str]:
    return set(all_keys(registered_options()))


def defined(body: list[ast.stmt], prefix: str = "") -> set[str]:
    """Dotted names of the functions, classes and methods in `body`."""
    names: set[str] = set()
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(prefix + node.name)
        if isinstance(node, ast.ClassDef):
            names |= defined(node.body, f"{prefix}{node.name}.")
    return names


def test_each_part_of_the_paper_names_a_file_and_a_function_that_exist() -> None:
    table = re.findall(r"^\| (.+?) \| .+? \| `(sns/\S+)` \| `(\S+)` \|$", README, re.MULTILINE)
    for part, file, function in table:
        assert function in defined(ast.parse((ROOT / file).read_text()).body), part
    parts = {part for row in table for part in row[0].split(", ")}
    sections = {"3.1", "3.2", "3.3", "4.1", "4.2", "4.3", "4.4"}
    figures = {f"Figure {number}" for number in range(1, 7)}
    assert parts >= {"Equation 1", "Equation 2", "Equation 3", "Algorithm 1", "Table 1", *sections, *figures}


def test_page_and_file_hold_the_same_choices() -> None:
    on_page = {what: sure for what, sure, _ in CHOICE.findall(section("Departures and choices"))}
    assert on_page == {choice["what"]: str(choice.get("sure", "-")) for choice in CHOICES}


def test_each_choice_names_its_field_or_where_the_code_has_it() -> None:
    texts = {what: text for what, _, text in CHOICE.findall(section("Departures and choices"))}
    for choice in CHOICES:
        if "option" in choice:
            assert choice["option"] in texts[choice["what"]], choice["what"]
        if "code" in choice:
            assert "no field" in texts[choice["what"]], choice["what"]
            assert (ROOT / choice["code"]).is_file()


def test_page_and_file_hold_the_same_errata() -> None:
    on_page = [(number, where) for number, where, _ in ERRATUM.findall(section("Errata"))]
    assert on_page == [(str(erratum.get("demonstration", "-")), erratum["where"]) for erratum in ERRATA]


def test_every_field_on_the_page_and_in_the_file_exists() -> None:
    assigned = {word.split("=")[0] for text in [*spans(), *OTHERS] for word in text.split() if "=" in word}
    dotted = {text for text in spans() if re.fullmatch(r"(data|batch|optim|train|measure|model|method)\.\w+", text)}
    named = assigned | dotted | {choice["option"] for choice in CHOICES if "option" in choice}
    assert len(named) > 30
    assert named - existing_fields() <= {"experiment"}


def test_every_override_on_the_page_is_one_of_the_files() -> None:
    overrides = {word for text in spans() for word in text.split() if re.fullmatch(r"[\w.]+=\S+", word)}
    assert overrides - {word for override in OTHERS for word in override.split()} == {"seed=0,1,2"}


@pytest.mark.parametrize("override", OTHERS)
def test_every_other_choice_is_accepted_and_is_another_run(override: str) -> None:
    words = override.split()
    base = [word for word in words if word.split("=")[0] in ("setting", "method", "batch")]
    other, plain = (configure(compose_tree(*each)) for each in (words, base))
    assert other.run_id != plain.run_id


def test_every_file_on_the_page_exists() -> None:
    named = [word for text in spans() for word in text.split() if re.match(r"(sns|tests|scripts|notebooks)/", word)]
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name).exists()] == []


def commands() -> list[list[str]]:
    """Overrides of every training command that README, docs/ and results/README.md show."""
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "results" / "README.md"]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    lines = re.findall(r"python scripts/train\.py ([^`\n]*)", re.sub(r"\\\n *", "", text))
    options = re.findall(r"`('[+]?hydra\.launcher\.[^`]+')`", text)
    written = [line.partition(";")[0] for line in lines] + [f"hydra/launcher=slurm {each}" for each in options]
    return [[word for word in shlex.split(line, comments=True) if "=" in word and "$" not in word] for line in written]


@pytest.mark.parametrize("overrides", commands(), ids=" ".join)
def test_every_training_command_on_the_pages_composes(overrides: list[str]) -> None:
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        assert compose("config", overrides=overrides, return_hydra_config=True)


@pytest.fixture(scope="module")
def printed() -> str:
    lines: list[str] = []
    script = runpy.run_path(str(ROOT / "scripts/errata.py"))
    for part in script["parts"](ROOT / "results"):
        lines += part
    return "\n".join(lines)


def near(quoted: str, computed: float) -> bool:
    """Within TOLERANCE, or within one unit of the last digit that is quoted."""
    digits, _, power = quoted.partition("e")
    unit = 10.0 ** (int(power or 0) - len(digits.partition(".")[2]))
    return abs(float(quoted) - computed) <= max(TOLERANCE * abs(computed), 1.001 * unit if "." in digits else 0.0)


def test_the_file_of_errata_is_what_the_command_prints(printed: str) -> None:
    quoted = (ROOT / "results/paper/errata.txt").read_text(encoding="utf-8")
    assert NUMBER.sub("#", quoted).split() == NUMBER.sub("#", printed).split()
    for line, again in zip(quoted.splitlines(), printed.splitlines(), strict=True):
        pairs = zip(NUMBER.findall(line), NUMBER.findall(again), strict=True)
        assert all(near(number, float(other)) for number, other in pairs), f"{line}\n{again}"


def test_the_errata_on_the_page_quote_the_command(printed: str) -> None:
    """Each number after "Numbers:" is printed by the command in the part of the same number."""
    parts = {part[0]: part for part in re.split(r"\n(?=\d\. )", printed)}
    errata = ERRATUM.findall(section("Errata"))
    quoted = [(number, each) for number, _, text in errata for each in NUMBER.findall(text.partition("Numbers:")[2])]
    assert len(quoted) > 25
    for part, number in quoted:
        computed = [float(other) for other in NUMBER.findall(parts[part])]
        assert any(near(number, other) for other in computed), f"erratum {part}: {number}"


def test_the_table_of_public_code_quotes_the_command(printed: str) -> None:
    rows = re.findall(r"^\| (.+?) \| .+? \| (\w+) \| ([\d.]+) ([\d.]+) \| ([\d.]+) \|$", PAGE, re.MULTILINE)
    assert [algorithm for _, algorithm, *_ in rows] == [CORRECTED, *ALGORITHMS]
    for name, _, *quoted in rows:
        (line,) = [line for line in printed.splitlines() if line.startswith(f"   {name} ")]
        computed = line.removeprefix(f"   {name}").split()
        assert all(near(a, float(b)) for a, b in zip(quoted, computed, strict=True)), name
