"""The two studies with a rule: precision and batch_norm, from records whose numbers are known."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from synthetic import write_run, write_study_run

from sns.analysis.cells import load_results
from sns.analysis.sensitivity import batch_norm, precision
from sns.analysis.sensitivity import compute as sensitivity
from sns.analysis.sensitivity import text as sensitivity_text

SETTINGS = ("vgg_pocket", "nin_pocket")


def record(accuracy: float, gap: float = 0.2, status: str = "ok") -> Any:
    final = {"test_accuracy": accuracy, "gap": gap}
    return SimpleNamespace(result=SimpleNamespace(status=status, final=final, run_id=f"run {accuracy}"))


def cells(**shift: float) -> dict[Any, dict[str, dict[int, Any]]]:
    """Two settings, two methods, three seeds; bf16 is above fp32 by .001 s and by `shift`."""
    made: dict[Any, dict[str, dict[int, Any]]] = {}
    for setting in SETTINGS:
        for method in ("vanilla", "spectral"):
            fp32 = {seed: record(0.5 + seed / 100) for seed in (0, 1, 2)}
            more = shift.get(method, 0.0)
            bf16 = {seed: record(0.5 + seed * 0.011 + more, 0.2 + shift.get("gap", 0.0)) for seed in (0, 1, 2)}
            made[setting, "small", (method,)] = {"fp32": fp32, "bf16": bf16}
    return made


def test_precision_equal_runs_pass_the_rule() -> None:
    *parts, _, verdict = precision.judge(cells(), 12)
    assert "**bf16**" in verdict
    assert parts[0] == "1. Runs that diverge in bf16 alone: 0 of 12."
    assert "Test accuracy: bf16 less fp32 +0.10 points, 95% interval [+0.05, +0.15], 12 pairs; limit ±1." in parts[1]
    assert "spectral less vanilla: bf16 less fp32 +0.00 points" in parts[3]
    assert "6 pairs; limit ±1.5" in parts[3]


@pytest.mark.parametrize(
    "shift", [{"vanilla": 0.02, "spectral": 0.02}, {"gap": -0.011}, {"spectral": 0.016, "vanilla": -0.001}], ids=str
)
def test_precision_a_shift_beyond_a_limit_fails_it(shift: dict[str, float]) -> None:
    assert "**tf32**" in precision.judge(cells(**shift), 12)[-1]


def test_precision_a_run_that_diverges_in_bf16_alone_fails_it() -> None:
    made = cells()
    made["vgg_pocket", "small", ("vanilla",)]["bf16"][0].result.status = "diverged"
    lines = precision.judge(made, 12)
    assert lines[0] == "1. Runs that diverge in bf16 alone: 1 of 12."
    assert "**tf32**" in lines[-1]
    made["vgg_pocket", "small", ("vanilla",)]["fp32"][0].result.status = "diverged"
    assert "**bf16**" in precision.judge(made, 12)[-1]


def test_precision_is_not_decided_before_all_runs() -> None:
    assert precision.judge(cells(), 36) == ["Rule: not yet decided, 12 of 36 pairs of runs are complete."]


def test_precision_compares_with_the_runs_of_pocket(tmp_path: Path) -> None:
    """Runs in fp32 in the folder of the studies, with other options, are not its default."""
    runs = tmp_path / "runs"
    for seed in (0, 1, 2):
        write_study_run(runs / "pocket", "spectral", seed, 0.5, {"model.dropout": 0.0})
        write_study_run(runs / "sensitivity", "spectral", seed, 0.9, {"measure.hessian": False})
        write_study_run(runs / "sensitivity", "spectral", seed, 0.52 + seed / 100, {"train.precision": "bf16"})
    frame = sensitivity.compute(*sensitivity.load_studies(tmp_path))
    chosen = (frame["study"] == "precision") & (frame["quantity"] == "test_accuracy") & (frame["runs"] == 3)
    rows = frame[chosen].set_index("value")
    assert rows["mean"].to_dict() == pytest.approx({"fp32": 0.5, "bf16": 0.53})
    assert rows["difference"]["bf16"] == pytest.approx(0.03)
    page = sensitivity_text.to_markdown(frame)
    assert "| small VGGNet, CIFAR-10 at 16x16 | 416 | spectral | bf16 | 3 | 0.530 ± 0.010<br>" in page
    assert "Rule: not yet decided, 3 of 36 pairs" in page
    ghost = frame[(frame["study"] == "ghost") & (frame["quantity"] == "test_accuracy") & (frame["runs"] == 3)]
    assert ghost["mean"].tolist() == [0.9]  # bf16 runs are no part of another study


def test_further_seeds_of_pocket_without_a_partner_change_no_row_of_precision(tmp_path: Path) -> None:
    """Seed 3 has a partner, though the study did not plan it; seeds 4 and 5 have none."""
    runs = tmp_path / "runs"

    def rows(*further: int) -> pd.DataFrame:
        for seed in further:
            write_study_run(runs / "pocket", "spectral", seed, 0.1 * seed, {"model.dropout": 0.0})
        frame = sensitivity.compute(*sensitivity.load_studies(tmp_path))
        return frame[(frame["study"] == "precision") & (frame["method"] == "spectral")].reset_index(drop=True)

    for seed in (0, 1, 2, 3):
        write_study_run(runs / "sensitivity", "spectral", seed, 0.52 + seed / 100, {"train.precision": "bf16"})
    before = rows(0, 1, 2, 3)
    accuracy = before[(before["quantity"] == "test_accuracy") & (before["runs"] == 4)]
    assert accuracy["value"].tolist() == ["fp32", "bf16"]
    assert accuracy["pairs"].iloc[1] == 4
    pd.testing.assert_frame_equal(rows(4, 5), before)


def statistics(folder: Path, method: str, seed: int, plain: float, anew: float) -> None:
    place = write_run(folder, "nin_pocket", method, "small", seed, test_accuracy=plain, gap=0.2)
    path = place / "result.json"
    splits = {"train": anew + 0.25, "test": anew}
    content = json.loads(path.read_text())
    content["measured"]["recalibrated"] = {
        name: {"loss": 1.0, "accuracy": value, "gradient_norm": 2.0, "gradient_norm_rms": 2.0}
        for name, value in splits.items()
    }
    path.write_text(json.dumps(content))


def test_batch_norm_states_both_measurements_and_judges(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "batch_norm"
    for seed in (0, 1, 2):
        statistics(folder, "vanilla", seed, 0.50, 0.505)
        statistics(folder, "spectral", seed, 0.49, 0.51 + seed / 1000)
    frame = sensitivity.compute(*sensitivity.load_studies(tmp_path))
    part = frame[frame["study"] == batch_norm.STUDY]
    rows = part[part["value"] == "recalibrated"].set_index(["method", "quantity"])
    assert rows["difference"]["spectral", "test_accuracy"] == pytest.approx(0.021)
    assert rows["difference"]["vanilla", "gap"] == pytest.approx(0.05)
    page = sensitivity_text.to_markdown(frame)
    assert "| spectral | 3 | 0.490 / 0.511<br>+0.021 [+0.019, +0.023] |" in page
    assert "1. The two test accuracies are more than 1 point apart in 1 of 2 cells." in page
    assert "has another sign in 1 of 2: test accuracy of small NIN, CIFAR-100 at 16x16, B=32 (-0.010 / +0.006)." in page


def test_batch_norm_leaves_out_runs_without_the_measurement(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "batch_norm"
    path = write_run(folder, "nin_pocket", "vanilla", "small", 0) / "result.json"
    content = json.loads(path.read_text())
    del content["measured"]["recalibrated"]
    path.write_text(json.dumps(content))
    rows = pd.DataFrame(batch_norm.rows(load_results(folder)))
    assert set(rows["n"]) == {0}
