"""Measures of runs with known spectra."""

from pathlib import Path

import pytest
from synthetic import SHAPES, write_run

from sns.analysis.cells import load_results
from sns.analysis.claims.measures import RUN


def test_flatness_of_known_spectra(tmp_path: Path) -> None:
    write_run(tmp_path / "flat", skew=0.0)
    write_run(tmp_path / "skewed", skew=200.0)
    flat, skewed = (load_results(tmp_path / name).cells[0].records[0] for name in ("flat", "skewed"))
    assert RUN["flatness"](flat) == pytest.approx(1.0, abs=1e-12)
    assert RUN["flatness"](skewed) == pytest.approx(
        sum(1 / min(rows, columns) for _, rows, columns in SHAPES) / len(SHAPES), rel=1e-2
    )
