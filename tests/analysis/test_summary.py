"""The summary against numbers worked out by hand."""

from pathlib import Path

import pandas as pd
import pytest
from synthetic import write_run

from sns.analysis.cells import Results
from sns.analysis.cells import load_results as load
from sns.analysis.figures import style, summary
from sns.common.errors import RecordError


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """Spectral is ahead of vanilla by 2, 3 and 4 points on three seeds; decay has one run,
    adversarial diverged."""
    for seed, ahead in enumerate((0.02, 0.03, 0.04)):
        write_run(tmp_path, "vgg_pocket", "vanilla", seed=seed, test_accuracy=0.5, gap=0.4)
        write_run(tmp_path, "vgg_pocket", "spectral", seed=seed, test_accuracy=0.5 + ahead, gap=0.3 - ahead)
    write_run(tmp_path, "vgg_pocket", "decay", seed=7, test_accuracy=0.61, gap=0.29)
    write_run(tmp_path, "vgg_pocket", "vanilla", seed=7, status="diverged")
    write_run(tmp_path, "vgg_pocket", "adversarial", status="diverged")
    return load(tmp_path)


def rows(frame: pd.DataFrame, method: str, quantity: str) -> dict[str, float]:
    part = frame[(frame["method"] == method) & (frame["quantity"] == quantity)]
    assert len(part) == 1
    return {str(key): value for key, value in part.iloc[0].items()}


def test_differences_are_paired_by_seed(results: Results) -> None:
    frame = summary.compute(results)
    accuracy, gap = rows(frame, "spectral", "test_accuracy"), rows(frame, "spectral", "gap")
    half = 4.302653 * 0.01 / 3**0.5  # t(2) times the standard error
    assert accuracy["mean"] == pytest.approx(0.53)
    assert accuracy["sd"] == pytest.approx(0.01)
    assert (accuracy["difference"], accuracy["pairs"]) == (pytest.approx(0.03), 3)
    assert (accuracy["low"], accuracy["high"]) == (pytest.approx(0.03 - half), pytest.approx(0.03 + half))
    assert gap["difference"] == pytest.approx(-0.13)
    alone = rows(frame, "decay", "test_accuracy")
    assert alone["pairs"] == 0
    assert pd.isna(alone["difference"])  # the vanilla run with its seed diverged
    assert "adversarial" not in set(frame["method"])


def test_table(results: Results) -> None:
    head, _, line = summary.to_markdown(summary.compute(results)).splitlines()
    assert head.endswith("| B | n | vanilla | decay | spectral |")
    cells = "50.0 ± 0.0 / 40.0 | **61.0** / 29.0 | 53.0 ± 1.0 / **27.0**"
    assert line == f"| small VGGNet, CIFAR-10 at 16x16 | 32 | 1-3 | {cells} |"


def test_figure_has_a_point_for_each_difference(results: Results) -> None:
    with style.context():
        figure = summary.draw(summary.compute(results))
    accuracy = figure.axes[0]
    points = [line for line in accuracy.lines if line.get_marker() == "D"]
    assert [float(line.get_ydata()[0]) for line in points] == [pytest.approx(3.0)]  # type: ignore[index]
    assert [label.get_text() for label in accuracy.get_xticklabels()] == ["B=32"]


def test_nothing_to_summarise(tmp_path: Path) -> None:
    write_run(tmp_path, status="diverged")
    with pytest.raises(RecordError, match="no run trained to the end"):
        summary.compute(load(tmp_path))
