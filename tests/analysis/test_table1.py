"""Table 1: numbers by hand, what is bold, and how what is not there is shown."""

import io
import math
import runpy
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from synthetic import ENVIRONMENT, write_grid, write_run

from sns.analysis.cells import PAPER_SETTINGS, load_results
from sns.analysis.table1 import table as table1
from sns.analysis.table1 import text as table1_text

SCRIPT = Path(__file__).parents[2] / "scripts" / "table1.py"


def cell(frame: pd.DataFrame, method: str, regime: str = "small", setting: str = "vgg_cifar10") -> dict[str, Any]:
    rows = frame[(frame["setting"] == setting) & (frame["method"] == method) & (frame["regime"] == regime)]
    assert len(rows) == 1
    return dict(rows.iloc[0])


def test_numbers_by_hand(tmp_path: Path) -> None:
    for seed, (accuracy, gap) in enumerate([(0.89, 0.06), (0.90, 0.07), (0.94, 0.11)]):
        write_run(tmp_path, "vgg_cifar10", "spectral", "small", seed, test_accuracy=accuracy, gap=gap)
    row = cell(table1.compute(load_results(tmp_path)), "spectral")
    assert (row["runs"], row["n"], row["gap_n"], row["batch_size"], row["alpha"]) == (3, 3, 3, 64, 0.88)
    assert row["accuracy_mean"] == pytest.approx(0.91, abs=1e-12)
    assert row["accuracy_sd"] == pytest.approx(math.sqrt(0.0007), abs=1e-12)  # (4 + 1 + 9) / 2 * 1e-4
    assert row["gap_mean"] == pytest.approx(0.08, abs=1e-12)
    assert row["accuracy_difference"] == pytest.approx(0.91 - 0.904, abs=1e-12)
    assert row["gap_difference"] == pytest.approx(0.08 - 0.068, abs=1e-12)
    assert table1_text.measured_value(row, "accuracy") == "0.910 ± 0.026 (3)"
    assert table1_text.paper_value(row, "accuracy") == "paper 0.904, +0.006"
    assert table1_text.paper_value(row, "gap") == "paper 0.068, +0.012"


def test_the_last_epoch_is_primary_and_the_best_stands_beside_it(tmp_path: Path) -> None:
    write_run(tmp_path, history={"test_accuracy": [0.5, 0.95, 0.9], "train_accuracy": [0.6, 1.0, 1.0]})
    row = cell(table1.compute(load_results(tmp_path)), "vanilla")
    assert (row["accuracy_mean"], row["best_accuracy_mean"]) == (0.9, 0.95)
    assert row["gap_mean"] == pytest.approx(0.05)  # at epoch 2, above alpha = 0.88
    assert row["final_gap_mean"] == pytest.approx(0.1)
    assert cell(table1.compute(load_results(tmp_path), accuracy="best"), "vanilla")["accuracy_mean"] == 0.95


def test_bold_is_highest_accuracy_and_smallest_gap_with_all_ties(tmp_path: Path) -> None:
    numbers = {
        "vanilla": (0.89, 0.05),
        "decay": (0.9101, 0.04),
        "adversarial": (0.88, 0.04),
        "spectral": (0.9104, 0.06),
    }

    def effect(setting: str, method: str, regime: str, seed: int) -> dict[str, Any]:
        return {"test_accuracy": numbers[method][0], "gap": numbers[method][1], "alpha": 0.5}

    write_grid(tmp_path, regimes=("small",), effect=effect)
    frame = table1.compute(load_results(tmp_path))
    assert [cell(frame, m)["accuracy_best"] for m in numbers] == [False, True, False, True]
    assert [cell(frame, m)["gap_best"] for m in numbers] == [False, True, True, False]
    assert "**0.910** (1)" in table1_text.to_markdown(frame)
    assert r"\textbf{0.040} (1)" in table1_text.to_latex(frame)
    assert "*0.910 (1)" in table1_text.to_plain(frame)


def test_one_filled_cell_is_no_best(tmp_path: Path) -> None:
    write_run(tmp_path, method="spectral")
    frame = table1.compute(load_results(tmp_path))
    assert not frame["accuracy_best"].any()
    assert not frame["gap_best"].any()
    assert "**" not in table1_text.to_markdown(frame)


def test_diverged_cells_are_spelt_out_not_averaged_and_not_best(tmp_path: Path) -> None:
    write_run(tmp_path, method="spectral", seed=0, test_accuracy=0.99)
    write_run(tmp_path, method="spectral", seed=1, status="diverged", epochs=3)
    write_run(tmp_path, method="spectral", seed=2, status="diverged", epochs=3)
    write_grid(tmp_path, methods=("vanilla", "decay"), regimes=("small",), seeds=range(3))
    write_grid(tmp_path, methods=("adversarial",), regimes=("small",), seeds=range(3), status="diverged")
    write_run(tmp_path, method="vanilla", regime="large", status="failed")
    frame = table1.compute(load_results(tmp_path))
    row = cell(frame, "spectral")
    assert (row["runs"], row["n"], row["diverged"], row["accuracy_mean"]) == (3, 1, 2, 0.99)
    assert table1_text.measured_value(row, "accuracy") == "0.990 (1), 2 of 3 diverged"
    assert not row["accuracy_best"]
    assert cell(frame, "vanilla")["accuracy_best"]
    assert table1_text.measured_value(cell(frame, "adversarial"), "gap") == "3 of 3 diverged"
    assert table1_text.measured_value(cell(frame, "vanilla", "large"), "accuracy") == "failed"
    assert table1_text.measured_value(cell(frame, "decay", "large"), "accuracy") == "not run"
    assert cell(frame, "decay", "large")["missing"] == 3
    markdown = table1_text.to_markdown(frame)
    assert "3 of 3 diverged" in markdown
    assert markdown.count("the loss stopped being finite (diverged)") == 5


def test_alpha_never_exceeded_is_not_a_gap(tmp_path: Path) -> None:
    write_run(tmp_path, seed=0, test_accuracy=0.88)  # alpha is 0.88
    write_run(tmp_path, seed=1, test_accuracy=0.9, gap=0.05)
    write_run(tmp_path, method="decay", test_accuracy=0.5)
    frame = table1.compute(load_results(tmp_path))
    row = cell(frame, "vanilla")
    assert (row["n"], row["gap_n"], row["never_exceeded"]) == (2, 1, 1)
    assert row["gap_mean"] == pytest.approx(0.05)
    assert table1_text.measured_value(row, "gap") == "0.050 (1), α never exceeded in 1 of 2"
    assert table1_text.measured_value(cell(frame, "decay"), "gap") == "α never exceeded"


def test_settings_shown_and_other_batch_sizes(tmp_path: Path) -> None:
    write_grid(tmp_path, ("digits_nin",), ("vanilla", "toy"))
    results = load_results(tmp_path)
    frame = table1.compute(results)
    assert set(frame["setting"]) == {"digits_nin"}
    assert list(frame["method"][:5]) == ["vanilla", "decay", "adversarial", "spectral", "toy"]
    assert cell(frame, "toy", "large", "digits_nin")["batch_size"] == 512
    assert "| NIN, digits | 32 |" in table1_text.to_markdown(frame)
    everything = table1.compute(results, all_cells=True)
    assert list(dict.fromkeys(everything["setting"])) == [*PAPER_SETTINGS, "digits_nin"]
    assert cell(everything, "decay", "large", "nin_cifar100")["batch_size"] == 4096


def test_notes_name_data_schedule_dose_and_what_was_left_out(tmp_path: Path) -> None:
    note = "92 of 60,000 images from JPEG"
    write_run(tmp_path, method="decay", environment={**ENVIRONMENT, "data": {"note": note}})
    write_run(tmp_path, seed=5).joinpath("result.json").write_text("{")
    notes = "\n".join(table1.compute(load_results(tmp_path)).attrs["notes"])
    assert f"vgg_cifar10: {note}." in notes
    assert "vgg_cifar10: 3 epochs (assumed for the paper: 300); dose in e-folds: decay small 2.5." in notes
    assert "Left out: " in notes


def test_csv_reads_back_the_same_numbers(tmp_path: Path) -> None:
    write_grid(tmp_path, seeds=(0, 1), realistic=True, epochs=20)
    frame = table1.compute(load_results(tmp_path))
    back = pd.read_csv(io.StringIO(table1_text.to_csv(frame)), dtype=str)
    assert [float(text) for text in back["accuracy_mean"].dropna()] == list(frame["accuracy_mean"].dropna())
    assert len(back) == 32


def test_latex_has_equally_many_columns_in_every_line(tmp_path: Path) -> None:
    write_grid(tmp_path, ("vgg_cifar10", "digits_vgg"), ("vanilla", "toy_method"))
    text = table1_text.to_latex(table1.compute(load_results(tmp_path)))
    lines = [line for line in text.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert {line.replace(r"\&", "").count("&") for line in lines} == {12}
    assert "toy\\_method" in text


def test_script_writes_three_files_and_fails_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_grid(tmp_path / "runs" / "demo", ("digits_vgg",))
    main = runpy.run_path(str(SCRIPT))["main"]
    assert main([str(tmp_path)]) == 0
    assert sorted(file.name for file in (tmp_path / "demo").iterdir()) == ["table1.csv", "table1.md", "table1.tex"]
    assert str(tmp_path / "demo" / "table1.md") in capsys.readouterr().out
    assert main([str(tmp_path / "absent")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
