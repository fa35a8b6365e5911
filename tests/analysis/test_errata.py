"""What records say about the errata, on records with known answers."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from sns.analysis import errata
from sns.analysis.cells import Results, load_results
from sns.record.store import Record

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pocket() -> Results:
    return load_results(ROOT / "results/runs/pocket")


def test_nothing_is_said_without_runs() -> None:
    assert errata.trained(Results((), ())) == []


def test_shortfall_compares_the_penalty_with_the_exact_sigmas(pocket: Results) -> None:
    """A penalty of lambda / 2 * sum (0.9 sigma)^2 falls short by a tenth."""
    run = pocket.cell(errata.SETTING, errata.METHOD, "small").finished[0]
    layers = pd.DataFrame({"sigma": [3.0, 4.0]})
    history = pd.DataFrame({"penalty": [0.0, 0.02 * 5 / 2 * 0.81 * 25]})
    made = Record(run.path, run.result)
    made.__dict__.update(config={"method": {"factor": 0.02, "scale": 5.0}}, layers=layers, history=history)
    assert errata.shortfall(made) == pytest.approx(0.1)


def test_cells_without_the_measurement_are_left_out(pocket: Results) -> None:
    cells = [
        replace(cell, records=tuple(Record(r.path, replace(r.result, measured={})) for r in cell.records))
        for cell in pocket.cells
        if cell.setting == errata.SETTING
    ]
    assert errata.trained(Results(tuple(cells), ())) == []


def test_the_table_counts_are_those_of_the_claims() -> None:
    counts = {name: count for name, _, count in errata.table_counts()}
    assert counts["small_batch_decay_and_spectral_lead"] == "2 of 4 settings"
    assert counts["spectral_smallest_gap_everywhere"] == "5 of 8 rows"
    assert "spectral_spectrum_flat" not in counts


def test_adversarial_falls_least_but_on_densenet_40() -> None:
    assert list(errata.falls_least().values()) == ["adversarial", "adversarial", "spectral", "adversarial"]
