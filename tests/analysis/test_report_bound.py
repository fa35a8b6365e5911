"""The report's table on the bound of section 3.1: means over seeds, what is missing, and how
numbers are written."""

import math
from pathlib import Path
from typing import Any

import pytest
from synthetic import write_run

from sns.analysis.cells import load_results as load
from sns.analysis.report import bound as report_bound
from sns.analysis.report import page as report


def lipschitz(sigma: float | None, operator: float, jacobian: float) -> dict[str, Any]:
    norms = {"product_sigma": sigma, "product_operator_norm": operator}
    return {**norms, "jacobian_norm_max": jacobian, "jacobian_norm_mean": 1.0, "samples": 128}


def test_a_line_is_the_geometric_mean_of_its_seeds(tmp_path: Path) -> None:
    write_run(tmp_path, "digits_vgg", "spectral", seed=0, lipschitz=lipschitz(10.0, 1e3, 2.0))
    write_run(tmp_path, "digits_vgg", "spectral", seed=1, lipschitz=lipschitz(1000.0, 1e7, 8.0))
    write_run(tmp_path, "digits_vgg", "vanilla", "large", lipschitz=lipschitz(2.0, 0.5, 50.0))
    table = report_bound.bound(load(tmp_path))
    assert list(table["settings"]) == ["VGGNet, digits"]
    spectral, vanilla = table["settings"]["VGGNet, digits"]
    assert (spectral["batch"], spectral["method"], spectral["n"]) == (32, "spectral", 2)
    assert spectral["values"] == ["1.00 × 10²", "1.00 × 10⁵", "4.00 × 10⁰", "2.50 × 10⁴"]
    assert (vanilla["batch"], vanilla["values"][-1]) == (512, "1.00 × 10⁻²")
    assert (table["images"], table["without"]) == ([128], 0)
    page = report.build(load(tmp_path), "x")
    assert "<td>2.50 × 10⁴</td>" in page
    assert "over 128 test images" in page


def test_runs_without_the_measurement_are_counted_not_averaged(tmp_path: Path) -> None:
    write_run(tmp_path, "digits_vgg", seed=0, lipschitz=lipschitz(10.0, 1e3, 2.0))
    write_run(tmp_path, "digits_vgg", seed=1, spectra=False)
    write_run(tmp_path, "digits_vgg", seed=2, lipschitz=lipschitz(None, 1e3, 2.0))  # was not finite
    write_run(tmp_path, "digits_vgg", seed=3, status="diverged")
    table = report_bound.bound(load(tmp_path))
    assert [line["n"] for line in table["settings"]["VGGNet, digits"]] == [1]
    assert table["without"] == 2
    assert "2 finished runs without this measurement" in report.build(load(tmp_path), "x")


def test_a_folder_without_the_measurement_says_so(tmp_path: Path) -> None:
    write_run(tmp_path, "digits_vgg", spectra=False)
    page = report.build(load(tmp_path), "x")
    assert "No run measured it; train with measure.spectra=true." in page


@pytest.mark.parametrize(
    ("value", "text"),
    [(12345.0, "1.23 × 10⁴"), (0.0, "0.00 × 10⁰"), (0.00999999, "1.00 × 10⁻²"), (math.nan, "–"), (math.inf, "–")],
)
def test_numbers_in_scientific_notation(value: float, text: str) -> None:
    assert report_bound.scientific(value) == text


def test_a_network_that_ignores_its_input_has_no_ratio(tmp_path: Path) -> None:
    write_run(tmp_path, "digits_vgg", seed=0, lipschitz=lipschitz(10.0, 1e3, 0.0))
    write_run(tmp_path, "digits_vgg", seed=1, lipschitz=lipschitz(10.0, 1e3, 2.0))
    (line,) = report_bound.bound(load(tmp_path))["settings"]["VGGNet, digits"]
    assert line["values"][2:] == ["0.00 × 10⁰", "–"]


def test_settings_keep_the_order_of_the_paper(tmp_path: Path) -> None:
    for setting in ("digits_vgg", "densenet22_stl10", "vgg_cifar10"):
        write_run(tmp_path, setting)
    page = report.build(load(tmp_path), "x")
    places = [page.index(f'scope="rowgroup">{name}') for name in ("VGGNet, CIFAR-10", "DenseNet-22", "VGGNet, digits")]
    assert places == sorted(places)
