"""Measuring a finished run again, from its checkpoint."""

from collections.abc import Callable

import pytest

from sns.common.errors import ConfigError, UserError
from sns.config.schema import Config
from sns.record import store
from sns.train import checkpoint
from sns.train.remeasure import remeasure
from sns.train.run import run


def test_same_options_measure_the_same_and_new_ones_are_recorded(tiny: Callable[..., Config]) -> None:
    config = tiny("method=decay")
    first = run(config)
    files = {name: (config.directory / name).read_bytes() for name in (store.HISTORY_CSV, store.SPECTRA_CSV)}
    again = remeasure(config.directory, [])
    assert again.measured["hessian"] == first.measured["hessian"]
    assert again.measured["lipschitz"] == first.measured["lipschitz"]
    assert again.run_id == first.run_id
    more = remeasure(config.directory, ["measure.hessian_samples=50", "measure.lanczos=true"])
    assert more.measured["hessian"] is not None
    assert more.measured["hessian"]["test"]["samples"] == 50
    assert "lanczos_eigenvalue" in more.measured["hessian"]["test"]
    assert more.environment["measured"]["hessian_samples"] == 50
    assert store.read(config.directory).result == more
    none = remeasure(config.directory, ["measure.hessian=false", "measure.spectra=false"])
    assert none.measured["hessian"] == more.measured["hessian"]  # what is not measured again is kept
    assert none.measured["lipschitz"] == more.measured["lipschitz"]
    assert files == {name: (config.directory / name).read_bytes() for name in files}


def test_what_cannot_be_measured_is_one_sentence(tiny: Callable[..., Config]) -> None:
    config = tiny("measure.hessian=false")
    run(config)
    with pytest.raises(ConfigError, match="hesian"):
        remeasure(config.directory, ["measure.hesian=true"])
    (config.directory / checkpoint.FILE).unlink()
    with pytest.raises(UserError, match=r"has no checkpoint\.pt"):
        remeasure(config.directory, [])
    with pytest.raises(UserError, match="is not finished"):
        remeasure(config.directory / "nowhere", [])
