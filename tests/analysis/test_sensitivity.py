"""The sensitivity studies from records whose numbers are known."""

import functools
import itertools
import math
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT, compose_tree
from synthetic import write_run, write_study_run
from synthetic_fields import ENVIRONMENT

from sns.analysis.cells import load_results
from sns.analysis.sensitivity import compute as sensitivity
from sns.analysis.sensitivity import text as sensitivity_text
from sns.analysis.sensitivity.studies import STUDIES, Study
from sns.analysis.verify import page_faults
from sns.train.configure import configure

sys.path.insert(0, str(ROOT / "scripts"))
import sensitivity as script

T2 = 4.302652729696142  # of the 95% t interval with 2 degrees of freedom


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Spectral, ghost 104 and 52: accuracies .50 + s/100 and .01, .02, .03 less; 208: in both
    directions."""
    place = tmp_path / "runs" / "sensitivity"
    for seed in (0, 1, 2):
        base = 0.5 + seed / 100
        write_study_run(place, "spectral", seed, base)
        write_study_run(place, "spectral", seed, base - (seed + 1) / 100, {"batch.ghost": 52})
        write_study_run(place, "spectral", seed, base + (seed - 1) / 100, {"batch.ghost": 208})
    return place


def table(
    folder: Path, study: str = "ghost", method: str = "spectral", quantity: str = "test_accuracy"
) -> pd.DataFrame:
    frame = sensitivity.compute(load_results(folder), None)
    assert tuple(frame.columns) == sensitivity.COLUMNS
    chosen = (frame["study"] == study) & (frame["method"] == method) & (frame["quantity"] == quantity)
    return frame[chosen].set_index("value")


def notes(folder: Path) -> str:
    return "\n".join(sensitivity.compute(load_results(folder), None).attrs["notes"])


def test_a_study_is_what_its_experiment_trains() -> None:
    named = {study.name: study for study in STUDIES}
    ghost, operator, precision = named["ghost"], named["operator"], named["precision"]
    assert (ghost.field, ghost.values, ghost.cells) == (
        "batch.ghost",
        (52, 104, 208, 416),
        (("vanilla",), ("spectral",)),
    )
    assert (ghost.settings, ghost.regimes, ghost.seeds) == (("vgg_pocket",), ("large",), (0, 1, 2))
    methods = ("spectral", "spectral_operator")
    assert (operator.field, operator.values, operator.cells) == ("method.name", methods, (methods,))
    assert (precision.values, precision.with_main, ghost.with_main) == (("fp32", "bf16"), True, False)


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_the_default_is_the_settings_own_value(study: Study) -> None:
    for setting, regime, cell in itertools.product(study.settings, study.regimes, study.cells):
        config = configure(compose_tree(f"setting={setting}", f"batch={regime}", f"method={cell[0]}"))
        assert functools.reduce(getattr, study.field.split("."), config) == study.default
    assert study.default in study.values


def test_differences_are_paired_by_seed_and_judged_by_their_interval(folder: Path) -> None:
    rows = table(folder)
    assert list(rows.index) == [52, 104, 208, 416]
    assert rows["mean"].tolist()[:3] == pytest.approx([0.49, 0.51, 0.51])
    assert rows["sd"].tolist()[:3] == pytest.approx([0.0, 0.01, 0.02], abs=1e-12)
    assert rows["difference"][52] == pytest.approx(-0.02)
    assert rows["low"][52] == pytest.approx(-0.02 - T2 * 0.01 / math.sqrt(3))
    assert rows["high"][52] == pytest.approx(-0.02 + T2 * 0.01 / math.sqrt(3))
    assert rows["verdict"].tolist() == ["no change found", "default", "no change found", "too few runs"]
    write_study_run(folder, "spectral", 2, 0.50, {"batch.ghost": 52})  # now -.01, -.02, -.02
    assert table(folder)["verdict"][52] == "changes"
    assert set(table(folder, quantity="sigma_max")["verdict"]) == {"default", "no change found", "too few runs"}
    norms = table(folder, quantity="operator_norm")
    assert norms["mean"][104] == pytest.approx(1.4 * 4.0)


def test_what_another_study_varies_stays_out(folder: Path) -> None:
    """The folder is shared: for `operator` only the runs with the default ghost size count, however
    many others."""
    rows = table(folder, "operator")
    assert rows[rows["regime"] == "large"]["mean"].tolist() == pytest.approx([0.51])
    write_study_run(folder, "spectral_operator", 0, 0.6)
    write_study_run(folder, "spectral_operator", 1, 0.6)
    rows = table(folder, "operator", "spectral_operator")
    assert rows[rows["regime"] == "large"]["difference"].tolist() == pytest.approx([0.6 - 0.505])
    assert rows[rows["regime"] == "large"]["pairs"].tolist() == [2]
    assert "left out" not in notes(folder)


def test_runs_that_differ_in_more_than_the_field_are_left_out_and_named(folder: Path) -> None:
    before = table(folder)
    write_study_run(folder, "spectral", 0, 0.9, {"batch.ghost": 416, "optim.lr": 3.0})
    data = {"environment": {**ENVIRONMENT, "data": {"name": "other", "fingerprint": "1", "note": None}}}
    write_study_run(folder, "spectral", 0, 0.9, {"batch.ghost": 26}, **data)
    pd.testing.assert_frame_equal(table(folder), before)
    write_study_run(folder, "spectral", 0, 0.9, {"batch.ghost": 52, "train.epochs": 99.0})
    pd.testing.assert_frame_equal(table(folder), before)
    message = notes(folder)
    assert "s0__batch.ghost=416_optim.lr=3.0: they differ in optim.lr, not in batch.ghost alone." in message
    assert "s0__batch.ghost=26: they differ in the images, not in batch.ghost alone." in message
    assert "train.epochs=99.0: they differ in train.epochs, not in batch.ghost alone." in message
    free = {"train.device": "cuda", "data.path": "elsewhere.npz", "batch.micro": 1, "measure.batch_size": 1}
    write_study_run(
        folder, "spectral", 0, 0.9, {"batch.ghost": 416, **free, "track.mode": "online", "launch.retries": 9}
    )
    assert table(folder)["mean"][416] == pytest.approx(0.9)  # these change nothing


def test_one_variant_of_a_value_counts(folder: Path) -> None:
    before = table(folder)
    write_study_run(folder, "spectral", 3, 0.9, {"batch.ghost": 52}, variant="00000000")
    after = table(folder)
    assert after["mean"][52] == before["mean"][52]
    assert "s3__batch.ghost=52: another variant than most runs of batch.ghost=52." in notes(folder)


def test_a_value_that_was_not_planned_has_its_row(folder: Path) -> None:
    write_study_run(folder, "spectral", 0, 0.7, {"batch.ghost": 26})
    rows = table(folder)
    assert list(rows.index) == [52, 104, 208, 416, 26]
    assert rows["verdict"][26] == "too few runs"


def test_what_is_missing_or_did_not_end_well_is_said(folder: Path) -> None:
    write_study_run(folder, "spectral", 1, 0.5, {"batch.ghost": 416}, status="diverged")
    write_study_run(folder, "vanilla", 1, 0.5)
    rows = table(folder)
    assert rows[["runs", "n", "missing_seeds"]].loc[416].tolist() == [1, 0, "0 2"]
    frame = sensitivity.compute(load_results(folder), None)
    page = sensitivity_text.to_markdown(frame)
    assert "| 416 | spectral | 416 | 0 (1 of 1 did not complete) | - |" in page
    assert (
        "- Not run, B=416, vanilla: batch.ghost=52; batch.ghost=104 (seed 0, 2); batch.ghost=208; batch.ghost=416."
        in page
    )
    assert "- Not run, B=416, spectral: batch.ghost=416 (seed 0, 2)." in page
    assert "s1__batch.ghost=416 diverged: the loss stopped being finite" in page
    assert "No records of the experiment pocket." in page
    (folder / "vgg_pocket__vanilla__large__s1__" / "result.json").write_text("{")
    assert "Left out: vgg_pocket__vanilla__large__s1__/result.json is damaged" in notes(folder)


def test_the_page_states_numbers_and_verdicts(folder: Path) -> None:
    write_study_run(folder, "spectral", 2, 0.50, {"batch.ghost": 52})
    frame = sensitivity.compute(load_results(folder), None)
    page = sensitivity_text.to_markdown(frame)
    assert "| 416 | spectral | 52 | 3 | 0.493 ± 0.006<br>**-0.017** [-0.031, -0.002] | " in page
    assert "| 416 | spectral | 104 (default) | 3 | 0.510 ± 0.010 | 0.710 ± 0.010 | 0.200 ± 0.000 | " in page
    assert (
        "| spectral | 52, (104), 208, 416 | changes (52: -0.017); too few runs: 416 | no change found; too few" in page
    )
    judged = (frame["verdict"] == "changes") | (frame["verdict"] == "no change found")
    changed = (frame["verdict"] == "changes").sum()
    assert (
        f"{judged.sum()} differences are judged, {changed} of them `changes`; if no choice mattered, about 1 of" in page
    )


def pocket(folder: Path, method: str, seed: int, train: float, running: float, test: float = 0.5) -> None:
    """A run of three evaluations: far below alpha = .45 (there with gap 0), then twice the given
    accuracies."""
    columns = {"test_accuracy": [0.1, test, test], "train_accuracy": [0.1, train - 0.1, train]}
    columns["running_train_accuracy"] = [0.1, running - 0.2, running]
    write_run(folder, "vgg_pocket", method, "small", seed, history=columns, alpha=0.45)


def test_the_gap_by_both_definitions_of_training_accuracy(tmp_path: Path) -> None:
    place = tmp_path / "runs" / "pocket"
    for seed in (0, 1, 2):
        pocket(place, "vanilla", seed, 0.9 + seed / 100, 0.85)
        pocket(place, "decay", seed, 0.8, 0.82 + seed / 100)
        pocket(place, "spectral", seed, 0.7, 0.70)
    frame = sensitivity.compute(None, load_results(place))
    rows = frame[frame["study"] == "train_accuracy"].set_index(["method", "value", "quantity"])
    final = rows["mean"].xs("gap", level="quantity")
    assert final["vanilla"].tolist() == pytest.approx([0.41, 0.35])
    assert final["decay"].tolist() == pytest.approx([0.30, 0.33])
    at_alpha = rows["mean"].xs("gap_at_alpha", level="quantity")
    assert at_alpha["vanilla"].tolist() == pytest.approx([0.31, 0.15])
    assert rows["difference"]["vanilla", "running", "gap"] == pytest.approx(-0.06)
    assert rows["rank"]["vanilla", "evaluation", "gap"] == 3
    page = sensitivity_text.to_markdown(frame)
    order = "spectral, decay, vanilla"
    assert f"| 0.410 / 0.350 | 0.300 / 0.330 | 0.200 / 0.200 | {order} | {order} | the same |" in page
    same = "for the final gap in 0 of 1 settings and batches and for the gap at alpha in 0 of 1 settings and batches."
    assert same in page
    for seed in (0, 1, 2):
        pocket(place, "vanilla", seed, 0.9, 0.75)
    page = sensitivity_text.to_markdown(sensitivity.compute(None, load_results(place)))
    orders = f"{order} | spectral, vanilla, decay"
    assert f"| 0.400 / 0.250 | 0.300 / 0.330 | 0.200 / 0.200 | {orders} | changes |" in page
    assert "for the final gap in 1 of 1" in page


def test_both_definitions_compare_methods_over_their_common_seeds(tmp_path: Path) -> None:
    place = tmp_path / "runs" / "pocket"
    for seed in (0, 1):
        pocket(place, "vanilla", seed, 0.9, 0.8)
        pocket(place, "decay", seed, 0.8, 0.8)
    pocket(place, "vanilla", 2, 0.6, 0.5)  # decay has no such run yet
    frame = sensitivity.compute(None, load_results(place))
    rows = frame[(frame["study"] == "train_accuracy") & (frame["quantity"] == "gap")].set_index(["method", "value"])
    assert rows["n"].tolist() == [2] * 4
    assert rows["mean"]["vanilla", "evaluation"] == pytest.approx(0.4)
    assert rows["missing_seeds"].to_dict() == {key: "2" if key[0] == "decay" else "" for key in rows.index}


def test_a_gap_that_never_reached_alpha_has_no_rank(tmp_path: Path) -> None:
    place = tmp_path / "runs" / "pocket"
    pocket(place, "vanilla", 0, 0.9, 0.8)
    pocket(place, "decay", 0, 0.5, 0.5, test=0.3)
    frame = sensitivity.compute(None, load_results(place))
    rows = frame[(frame["method"] == "decay") & (frame["quantity"] == "gap_at_alpha")]
    assert rows["n"].tolist() == [0, 0]
    assert rows["rank"].isna().all()
    assert (
        "| at alpha (n 0-1) | 0.300 / 0.100 | - / - | vanilla | vanilla | the same |"
        in sensitivity_text.to_markdown(frame)
    )


def test_the_script_writes_what_verify_computes_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = folder.parents[1]
    assert script.main([str(results)]) == 0
    assert list(page_faults(results)) == []
    files = [results / "sensitivity" / f"sensitivity.{kind}" for kind in ("csv", "md")]
    frame = pd.read_csv(files[0])
    assert list(frame.columns) == list(sensitivity.COLUMNS)
    assert set(frame["batch_size"].dropna()) == {416}
    for file in files:
        whole = file.read_text()
        file.write_text(whole.replace("default", "chosen", 1))
        (fault,) = page_faults(results)
        assert fault.startswith(f"{file} differs from what its records give now: renew it with ")
        assert fault.endswith(f"python scripts/sensitivity.py {results}")
        file.write_text(whole)
    assert script.main([str(results), "--out", str(results / "elsewhere")]) == 0
    assert (results / "elsewhere" / "sensitivity.md").read_text() == files[1].read_text()


def test_without_runs_it_says_what_to_train(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "runs" / "sensitivity").mkdir(parents=True)
    assert script.main([str(tmp_path)]) == 1
    assert "holds no finished run of the studies: train them (make sensitivity)" in capsys.readouterr().err
    assert not (tmp_path / "sensitivity").exists()
