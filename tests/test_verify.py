"""results/ is complete, its run_ids are right, and its pages follow from its records."""

import json
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import ROOT, TINY, compose_tree

from sns.analysis.verify import SECONDS, compare_histories, record_faults
from sns.common.errors import RecordError
from sns.record import store
from sns.train.configure import configure
from sns.train.run import run

sys.path.insert(0, str(ROOT / "scripts"))
import table1
import verify


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with one tiny run and its table."""
    results = tmp_path_factory.mktemp("results")
    run(configure(compose_tree(*TINY, f"results={results}", "experiment.name=tiny", "train.threads=1")))
    assert table1.main([str(results), "--experiment", "tiny"]) == 0
    return results


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A copy of `finished`, for a test to damage."""
    return Path(shutil.copytree(finished, tmp_path / "results"))


def the_run(results: Path) -> Path:
    return store.run_directories(results / "runs")[0]


def test_the_committed_results_hold(capsys: pytest.CaptureFixture[str]) -> None:
    assert verify.main([str(ROOT / "results")]) == 0, capsys.readouterr().err


def test_a_complete_results_folder_passes(finished: Path) -> None:
    assert verify.main([str(finished)]) == 0


def test_a_quotation_follows_its_file(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = copy.parent / "README.md"
    table = (copy / "tiny/table1.md").read_text()
    page.write_text(f"before\n<!-- results/tiny/table1.md -->\n{table}<!-- / -->\nafter\n")
    assert verify.main([str(copy)]) == 0
    page.write_text(page.read_text().replace("vanilla", "vanila", 1))
    assert verify.main([str(copy)]) == 1
    assert "quotes results/tiny/table1.md as it was" in capsys.readouterr().err
    assert verify.main([str(copy), "--requote"]) == 0
    assert page.read_text() == f"before\n<!-- results/tiny/table1.md -->\n{table}<!-- / -->\nafter\n"
    page.write_text("<!-- results/tiny/none.md -->\nx\n<!-- / -->")
    assert verify.main([str(copy)]) == 1
    assert "does not exist" in capsys.readouterr().err


def test_an_unfinished_run_is_no_fault_and_a_record_without_its_result_is_one(copy: Path) -> None:
    unfinished = copy / "runs/single/begun"  # where no page is computed from it
    unfinished.mkdir(parents=True)
    (unfinished / "config.yaml").write_text((the_run(copy) / "config.yaml").read_text())
    assert verify.main([str(copy)]) == 1
    (unfinished / "attempts.json").write_text("{}")
    assert verify.main([str(copy)]) == 0


@pytest.mark.parametrize(
    ("file", "change", "says"),
    [
        ("config.yaml", ("seed: 0", "seed: 1"), "has several identities"),
        ("config.yaml", ("lr: 0.02", "lr: 0.03"), "has several identities"),
        ("result.json", ('"schema": 2', '"schema": 99'), "has schema 99"),
        ("result.json", ('"experiment": "tiny"', '"experiment": "other"'), "belongs to the experiment other"),
        ("history.csv", ("test_accuracy", "accuracy"), "lacks the columns test_accuracy"),
        ("spectra.csv", ("singular_value", "value"), "lacks the columns singular_value"),
    ],
)
def test_a_record_that_is_not_what_it_says_is_named(copy: Path, file: str, change: tuple[str, str], says: str) -> None:
    path = the_run(copy) / file
    text = path.read_text()
    assert change[0] in text
    path.write_text(text.replace(*change))
    assert any(says in fault for fault in record_faults(copy / "runs", configure))


def test_a_page_that_its_records_do_not_give_is_named(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = copy / "tiny" / "table1.md"
    table.write_text(table.read_text().replace(".", ",", 1))
    (copy / "tiny" / "table9.md").write_text("by hand\n")
    assert verify.main([str(copy)]) == 1
    printed = capsys.readouterr()
    assert (
        "table1.md differs from what its records give now: "
        f"renew it with python scripts/publish.py {copy} --experiment tiny\n"
    ) in printed.err
    assert "table9.md is not computed from the records" in printed.err
    assert "2 fault(s)" in printed.out


def test_histories_without_accuracies_have_no_tolerance() -> None:
    first = pd.DataFrame({"epoch": [1, 2], "loss_d": [1.3, 1.2], **dict.fromkeys(SECONDS, 1.0)})
    assert (
        compare_histories(first, first.assign(**dict.fromkeys(SECONDS, 2.0))) == "every digit of 2 evaluations repeats"
    )
    with pytest.raises(RecordError, match="without accuracies have no tolerance"):
        compare_histories(first, first.assign(loss_d=[1.3, 1.2000001]))


def test_retraining_repeats_every_digit_here_and_notices_what_does_not(copy: Path) -> None:
    directory = the_run(copy)
    assert "every digit of 2 evaluations repeats" in verify.retrain(directory, [])
    with pytest.raises(RecordError, match="it would be another run"):
        verify.retrain(directory, ["optim.lr=0.5"])
    history = directory / "history.csv"
    frame = store.read(directory).history
    history.write_text(frame.assign(test_accuracy=frame["test_accuracy"] + 0.01).to_csv(index=False))
    assert "test_accuracy differs by 0.0100, within 0.03" in verify.retrain(directory, [])
    history.write_text(frame.assign(test_accuracy=frame["test_accuracy"] + 0.04).to_csv(index=False))
    with pytest.raises(RecordError, match=r"test_accuracy differs by 0\.0400, more than 0\.03"):
        verify.retrain(directory, [])
    result = json.loads((directory / "result.json").read_text())
    result["environment"]["data"]["fingerprint"] = "0" * 32
    (directory / "result.json").write_text(json.dumps(result))
    with pytest.raises(RecordError, match="on other images"):
        verify.retrain(directory, [])


def test_no_committed_record_names_a_folder_of_the_machine_that_made_it() -> None:
    for directory in store.run_directories(ROOT / "results" / "runs"):
        tree = yaml.safe_load((directory / "config.yaml").read_text())
        values = [tree["results"], tree["data"]["root"], tree["data"]["path"] or ""]
        assert not any(str(value).startswith("/") for value in values), directory
        assert "=/" not in (directory / "result.json").read_text(), directory
