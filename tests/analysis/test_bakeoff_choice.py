"""The choice of strengths and rates by the rule of results/bakeoff/claims.yaml."""

import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from analysis.bakeoff_worlds import METHODS, write_candidate
from conftest import ROOT, compose_tree

from sns.analysis.bakeoff import choice
from sns.analysis.bakeoff.choice import TUNINGS
from sns.common.errors import ConfigError, RecordError
from sns.launch.sweep import dry_run
from sns.method import METHODS as REGISTERED
from sns.method import strengths
from sns.train.configure import configure

sys.path.insert(0, str(ROOT / "scripts"))
import bakeoff as script

OPTIONS = {"sam": "rho", "decay": "factor", "spectral_hard_cap": "limit", "vanilla": ""}
TUNING, RATES, OPTIM = TUNINGS
CANDIDATES = {"sam": [0.1, 0.2, 0.4], "spectral_hard_cap": [4, 2, 1e-1]}
PLACE = ("vgg_pocket", "sam", "small")


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    """The experiments' YAML files with few candidates and without a choice."""
    place = tmp_path / "configs"
    shutil.copytree(ROOT / "configs/experiment", place)
    tables = {
        "bakeoff_tuning": {"vgg_pocket": {"small": CANDIDATES}},
        "bakeoff_rates": {"muon": {"small": [0.01, 0.03]}},
        "bakeoff_optim_tuning": {"muon": {"small": {"decay": [0.1, 0.3]}}},
    }
    for name, table in tables.items():
        tree = {"experiment": {"name": name}, "candidates": table}
        (place / f"{name}.yaml").write_text(yaml.safe_dump(tree))
    choice.write({}, TUNING, place)
    choice.write({}, OPTIM, place)
    return place


def tune(results: Path, accuracies: dict[str, list[float]]) -> None:
    """A run of each candidate with these held-out accuracies."""
    for method, values in accuracies.items():
        for candidate, accuracy in zip(CANDIDATES[method], values, strict=False):
            place = ("vgg_pocket", method, "small")
            write_candidate(results / "runs/bakeoff_tuning", place, OPTIONS[method], candidate, accuracy)


def chosen(results: Path, configs: Path) -> dict[str, float]:
    frame = choice.compute(results, TUNING, OPTIONS, configs)
    tree = choice.chosen(frame, TUNING)
    values: dict[str, float] = tree["vgg_pocket"]["small"] if tree else {}
    return values


def test_the_highest_accuracy_is_chosen_and_of_equal_ones_the_weaker(tmp_path: Path, configs: Path) -> None:
    tune(tmp_path, {"sam": [0.5, 0.6, 0.55], "spectral_hard_cap": [0.5, 0.7, 0.7]})
    assert chosen(tmp_path, configs) == {"sam": 0.2, "spectral_hard_cap": 2.0}  # a limit of 2 is weaker than .1


def test_nothing_is_chosen_from_a_part_of_the_candidates(tmp_path: Path, configs: Path) -> None:
    tune(tmp_path, {"sam": [0.5, 0.6], "spectral_hard_cap": [0.5, 0.7, 0.6]})
    frame = choice.compute(tmp_path, TUNING, OPTIONS, configs)
    assert chosen(tmp_path, configs) == {"spectral_hard_cap": 2.0}
    assert choice.missing(frame, TUNING) == ["vgg_pocket small sam: 0.4 (not run)"]


def test_a_place_without_a_run_is_left_out(tmp_path: Path, configs: Path) -> None:
    file = configs / "bakeoff_tuning.yaml"
    tree = yaml.safe_load(file.read_text())
    tree["candidates"]["vgg_pocket"]["large"] = {"sam": [0.1, 0.2, 0.4], "spectral_hard_cap": [4, 2, 1e-1]}
    file.write_text(yaml.safe_dump(tree))
    tune(tmp_path, {"sam": [0.5, 0.6, 0.4], "spectral_hard_cap": [0.5, 0.7, 0.6]})
    frame = choice.compute(tmp_path, TUNING, OPTIONS, configs)
    assert choice.untried(frame, TUNING) == ["vgg_pocket large"]
    assert choice.missing(frame, TUNING) == []
    assert list(choice.chosen(frame, TUNING)["vgg_pocket"]) == ["small"]
    assert "large" not in choice.to_markdown(frame)
    write_candidate(tmp_path / "runs/bakeoff_tuning", ("vgg_pocket", "sam", "large"), "rho", 0.1, 0.5)
    frame = choice.compute(tmp_path, TUNING, OPTIONS, configs)
    assert (choice.untried(frame, TUNING), len(choice.missing(frame, TUNING))) == ([], 2)


def test_a_diverged_candidate_is_not_chosen_and_a_failed_one_is_missing(tmp_path: Path, configs: Path) -> None:
    folder = tmp_path / "runs/bakeoff_tuning"
    tune(tmp_path, {"sam": [0.5, 0.6]})
    strongest = write_candidate(folder, PLACE, "rho", 0.4, 0.9, status="diverged")
    assert chosen(tmp_path, configs) == {"sam": 0.2}
    result = strongest / "result.json"
    result.write_text(result.read_text().replace('"status": "diverged"', '"status": "failed"'))
    assert chosen(tmp_path, configs) == {}
    for value in (0.1, 0.2, 0.4):
        write_candidate(folder, PLACE, "rho", value, 0.9, status="diverged")
    frame = choice.compute(tmp_path, TUNING, OPTIONS, configs)
    assert choice.missing(frame, TUNING)[0] == ("vgg_pocket small sam: 0.1 (diverged), 0.2 (diverged), 0.4 (diverged)")


def test_two_runs_of_one_candidate_are_refused_and_other_values_ignored(tmp_path: Path, configs: Path) -> None:
    folder = tmp_path / "runs/bakeoff_tuning"
    tune(tmp_path, {"sam": [0.5, 0.6, 0.55]})
    write_candidate(folder, PLACE, "rho", 0.8, 0.9)
    assert chosen(tmp_path, configs) == {"sam": 0.2}
    write_candidate(folder, PLACE, "rho", 0.2, 0.9, optimizer="sgd")
    with pytest.raises(RecordError, match=r"several runs of vgg_pocket small sam rho=0\.2: vgg_pocket__sam"):
        chosen(tmp_path, configs)


def test_rates_come_first_and_strengths_are_those_at_the_chosen_rate(tmp_path: Path, configs: Path) -> None:
    vanilla, decay = ("vgg_pocket", "vanilla", "small"), ("vgg_pocket", "decay", "small")
    for rate, accuracy in ((0.01, 0.5), (0.03, 0.6)):
        write_candidate(tmp_path / "runs/bakeoff_rates", vanilla, "lr", rate, accuracy, optimizer="muon")
    rates = choice.chosen(choice.compute(tmp_path, RATES, OPTIONS, configs), RATES)
    assert rates == {"muon": {"small": 0.03}}
    choice.write(rates, RATES, configs)
    for rate, accuracies in ((0.03, (0.5, 0.6)), (0.01, (0.9, 0.5))):
        for value, accuracy in zip((0.1, 0.3), accuracies, strict=True):
            folder = tmp_path / "runs/bakeoff_optim_tuning"
            write_candidate(folder, decay, "factor", value, accuracy, optimizer="muon", rate=rate)
    frame = choice.compute(tmp_path, OPTIM, OPTIONS, configs)
    assert choice.chosen(frame, OPTIM) == {"muon": {"small": {"decay": 0.3}}}


def test_the_choice_is_written_into_its_experiment_and_nowhere_else(tmp_path: Path, configs: Path) -> None:
    before = (configs / "bakeoff_optim.yaml").read_text()
    path = choice.write({"muon": {"small": {"decay": 1e-5}}}, OPTIM, configs)
    after = path.read_text()
    assert choice.read("bakeoff_optim", configs)["strengths"] == {"muon": {"small": {"decay": 1e-5}}}
    assert choice.read("bakeoff_optim", configs)["rates"] == yaml.safe_load(before)["rates"]
    assert choice.write({}, OPTIM, configs).read_text() == before
    assert set(before.splitlines()) - set(after.splitlines()) == {"strengths: {}"}
    path.write_text(before.replace("# end strengths", ""))
    with pytest.raises(RecordError, match="has no place for the strengths"):
        choice.write({}, OPTIM, configs)


def test_the_script_chooses_and_verify_holds_it_to_the_records(
    tmp_path: Path, configs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for function in (choice.compute, choice.write):
        monkeypatch.setattr(choice, function.__name__, lambda *a, f=function: f(*a, configs))  # type: ignore[misc]
    assert script.main(["choose", str(tmp_path)]) == 1
    tune(tmp_path, {"sam": [0.5, 0.6]})
    assert script.main(["choose", str(tmp_path)]) == 1
    assert "bakeoff_tuning lacks vgg_pocket small sam: 0.4 (not run)" in capsys.readouterr().err
    assert choice.read("bakeoff", configs)["strengths"] == {}
    tune(tmp_path, {"sam": [0.5, 0.6, 0.55], "spectral_hard_cap": [0.5, 0.7, 0.6]})
    assert script.main(["choose", str(tmp_path)]) == 0
    assert "| sam | rho | 0.1: 50.0, **0.2: 60.0**, 0.4: 55.0 |" in capsys.readouterr().out
    monkeypatch.undo()
    assert choice.read("bakeoff", configs)["strengths"]["vgg_pocket"]["small"]["sam"] == 0.2
    assert list(choice.faults(tmp_path, OPTIONS, configs)) == []
    file = configs / "bakeoff.yaml"
    file.write_text(file.read_text().replace("sam: 0.2", "sam: 0.4"))
    (fault,) = choice.faults(tmp_path, OPTIONS, configs)
    assert fault.startswith("the strengths of experiment=bakeoff do not follow")
    result = next((tmp_path / "runs/bakeoff_tuning").glob("*sam*0.4*/result.json"))
    result.write_text(result.read_text().replace('"test_accuracy": 0.55', '"test_accuracy": 0.65'))
    assert [fault.partition(" differs")[0] for fault in choice.faults(tmp_path, OPTIONS, configs)] == [
        str(tmp_path / "bakeoff_tuning/tuning.md"),
        str(tmp_path / "bakeoff_tuning/tuning.csv"),
    ]
    assert pd.read_csv(tmp_path / "bakeoff_tuning/tuning.csv")["chosen"].sum() == 2


def test_a_method_without_a_choice_is_not_trained_at_its_default() -> None:
    with pytest.raises(ConfigError, match="method=sam has no strength here yet"):
        configure(compose_tree("experiment=bakeoff", "setting=densenet_pocket", "method=sam"))
    configure(compose_tree("experiment=bakeoff", "setting=densenet_pocket", "method=vanilla"))
    own = configure(compose_tree("experiment=bakeoff", "setting=densenet_pocket", "method=sam", "strength=0.3"))
    assert own.method.rho == 0.3


def test_every_method_has_four_candidates_from_weak_to_strong() -> None:
    tree = choice.read("bakeoff_tuning")
    swept = tree["candidates"]
    wanted = {name for name in METHODS if strengths()[name]}
    assert len(METHODS) - len(wanted) == 2  # vanilla, sigma_reparam
    for (setting, regime, method), values in choice.leaves(swept, 3):
        assert len(values) == 4
        falls = strengths()[method] in ("limit", "norm", "multiple", "rank")
        assert values == sorted(set(values), reverse=falls), (setting, regime, method)
    assert {path[:2] for path, _ in choice.leaves(swept, 3)} == {
        (setting, regime) for setting in ("vgg_pocket", "nin_pocket") for regime in ("small", "large")
    }
    for _, methods in choice.leaves(swept, 2):
        assert set(methods) == wanted


def test_the_sweep_trains_every_candidate_once() -> None:
    runs, errors = dry_run(["experiment=bakeoff_tuning", "setting=vgg_pocket", "batch=small"])
    assert errors == []
    assert {run.config.method.name for run in runs} == set(METHODS) <= set(REGISTERED)
    assert len({run.config.run_id for run in runs}) == 4 * (len(METHODS) - 2) + 2
    for run in runs:
        assert (run.config.data.holdout, run.config.train.precision, run.config.seed) == (5000, "fp32", 0)
    sam = sorted({run.config.method.rho for run in runs if run.config.method.name == "sam"})
    assert sam == choice.read("bakeoff_tuning")["candidates"]["vgg_pocket"]["small"]["sam"]


@pytest.mark.parametrize(("name", "count"), [("bakeoff_rates", 24), ("bakeoff_optim_tuning", 72)])
def test_the_grid_of_optimizers_is_tuned_by_as_many_runs_as_it_says(name: str, count: int) -> None:
    runs, errors = dry_run([f"experiment={name}"])
    assert errors == []
    assert len({run.config.run_id for run in runs}) == count
    assert f"{count} runs" in (ROOT / f"configs/experiment/{name}.yaml").read_text()
