"""A dose in place of lambda, and a lambda that follows a target."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from conftest import compose_tree
from torch import nn
from updates import AUGMENT, SPLIT, same, small, state, trained

from sns import method as methods
from sns import optim
from sns.common.errors import ConfigError
from sns.config.schema import Config
from sns.method.decay import DecayOptions
from sns.method.spectral import SpectralNormPenalty, SpectralOptions
from sns.method.strength import TargetFactor
from sns.optim.schedule import at_dose, learning_rate
from sns.optim.sgd import SGDOptions
from sns.record import store
from sns.train import checkpoint
from sns.train.configure import configure
from sns.train.run import run
from sns.train.stop import Interrupted

Make = Callable[..., Config]
VARIANTS = {  # of runs whose method has more state than v, and what it must hold
    "fresh": (("method=spectral", "method.fresh=true"), "generator"),
    "target": (("method=spectral", "method.target_sigma=1.0"), "log_mean"),
    "both": (("method=spectral_operator", "method.fresh=true", "method.target_sigma=1.0"), "factor"),
    "gouk": (("method=spectral", "method.algorithm=gouk", "method.n_iterations=2"), "v0"),
    "blog": (("method=spectral", "method.algorithm=blog_2"), None),
}
MEASURE = ("measure.hessian=false", "measure.spectra=false", "measure.jacobian_samples=1")


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("dose", [0.5, 2.0])
def test_decay_alone_shrinks_a_weight_by_its_dose_in_e_folds(dose: float, momentum: float) -> None:
    rates, updates = SGDOptions(lr=0.05, momentum=momentum), 4000
    factor = at_dose(DecayOptions(dose=dose), rates, updates).factor
    weight = nn.Parameter(torch.ones((), dtype=torch.float64))
    optimizer = optim.build(rates, [weight])
    for step in range(updates):
        optimizer.set_rate(learning_rate(step, updates, rates))
        weight.grad = factor * weight.detach()
        optimizer.step()
    assert -math.log(weight.item()) == pytest.approx(dose, rel=0.02)


@pytest.mark.parametrize("method", ["decay", "spectral", "spectral_operator"])
def test_the_dose_is_that_of_the_run_whatever_its_length_and_batch(tiny: Make, method: str) -> None:
    """At both batch sizes and two lengths, with the paper's optimizer and plain SGD."""
    factors = []
    for more in (
        (),
        ("train.epochs=3",),
        ("batch=large", "batch.size=32", "batch.ghost=null"),
        ("optim=sgd", "optim.momentum=0"),
    ):
        config = tiny(f"method={method}", "method.dose=0.3", *more, *MEASURE)
        result = run(config)
        assert result.dose["e_folds"] == pytest.approx(0.3, rel=1e-12)
        factors.append(result.dose["factor"])
        assert store.read(config.directory).config["method"]["factor"] is None
        assert result.final["penalty"] > 0
    assert len(set(factors)) == 4


def test_the_dose_as_given_identifies_the_run_and_the_setting_s_factor_does_not() -> None:
    def ask(*more: str) -> Config:
        return configure(compose_tree("setting=vgg_pocket", "method=spectral", *more))

    assert ask("method.dose=124").run_id != ask("method.dose=125").run_id != ask().run_id
    assert ask("method.dose=124").run_id == ask("method.dose=124.0", "method.scale=1").run_id
    assert ask().method.scale == 187.5  # of the setting, without a dose
    assert (ask("method.dose=124").method.scale, ask("method.dose=124").method.factor) == (1.0, None)
    assert ask("method.factor=0.01").run_id == ask().run_id


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (("method.factor=0.01", "method.dose=5"), "method.factor=0.01 and method.dose=5.0 exclude each other"),
        (("strength=0.5", "method.dose=5"), "method.factor=0.5 and method.dose=5.0 exclude each other"),
        (("method.scale=3", "method.dose=5"), "method.scale=3 and method.dose=5.0 exclude each other"),
        (
            ("seed=2", "method.scale=${seed}", "method.dose=5"),
            "method.scale=2 and method.dose=5.0 exclude each other",
        ),
        (("optim=adam", "method.dose=5"), "method.dose=5.0 needs an optimizer with a dose, and optim=adam has none"),
        (("optim=muon", "method.dose=5"), "method.dose=5.0 needs an optimizer with a dose, and optim=muon has none"),
        (("method.dose=-1",), "method.dose=-1.0 must not be negative"),
    ],
)
@pytest.mark.parametrize("method", ["decay", "spectral"])
def test_what_a_dose_cannot_go_with_is_one_sentence(method: str, overrides: tuple[str, ...], says: str) -> None:
    with pytest.raises(ConfigError) as error:
        configure(compose_tree(f"method={method}", *overrides))
    assert str(error.value) == says


def stopped(tiny: Make, tmp_path: Path, *options: str) -> tuple[Any, Any]:
    """The records of a run and of one stopped after every 5 updates; both bitwise the same."""
    whole = tiny(*options, *MEASURE, f"results={tmp_path / 'whole'}")
    parts = tiny(*options, *MEASURE, f"results={tmp_path / 'parts'}", "train.stop_after=5")
    run(whole)
    for _ in range(2):
        with pytest.raises(Interrupted):
            run(parts)
        torch.manual_seed(7)  # whatever else a process does with torch's own stream
    run(parts)
    records = [store.read(config.directory) for config in (whole, parts)]
    rows = [record.history.drop(columns=["train_seconds", "measure_seconds"]) for record in records]
    pd.testing.assert_frame_equal(*rows, check_exact=True)
    states = [checkpoint.load(config.directory) for config in (whole, parts)]
    for part in ("model", "method"):
        x, y = (saved["task"][part] for saved in states if saved is not None)
        assert same(x, y)
    assert records[0].result.dose == records[1].result.dose
    return records[0], states[0]


@pytest.mark.parametrize("name", VARIANTS)
def test_a_stopped_run_equals_an_uninterrupted_one(tiny: Make, tmp_path: Path, name: str) -> None:
    options, key = VARIANTS[name]
    _, saved = stopped(tiny, tmp_path, *options)
    assert key is None or key in saved["task"]["method"]


def test_a_dose_counts_the_whole_run_and_not_its_pieces(tiny: Make, tmp_path: Path) -> None:
    record, _ = stopped(tiny, tmp_path, "method=spectral", "method.dose=0.7")
    assert record.result.dose["e_folds"] == pytest.approx(0.7)


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("name", VARIANTS)
def test_captured_equals_eager(name: str) -> None:
    options, key = VARIANTS[name]
    general = ("train.device=cuda", *options, *AUGMENT, *SPLIT, "train.epochs=4")
    eager, captured = (trained(small("digits_vgg", *general, f"train.mode={mode}"), 10) for mode in ("eager", "graph"))
    assert (eager.mode, captured.mode) == ("eager", "graph")
    assert same(state(eager), state(captured))
    assert key is None or f"method {key}" in state(captured)


def test_one_step_an_update_by_the_stated_rule_within_bounds() -> None:
    follower = TargetFactor(0.01, 2.0, torch.zeros(3, dtype=torch.float64))
    value, before = 0.01, 2.0
    for sigmas in ([3.0, 12.0], [2.0, 8.0], [1.0, 1.0], [2.0, 2.0]):
        mean = math.sqrt(sigmas[0] * sigmas[1])
        value *= (mean / 2) ** TargetFactor.GAIN * (mean / before) ** TargetFactor.DAMPING
        value = min(max(value, 0.01 / TargetFactor.RANGE), 0.01 * TargetFactor.RANGE)
        before = mean
        follower.follow([torch.tensor([sigma], dtype=torch.float64) for sigma in sigmas])
        assert follower.value.item() == pytest.approx(value, rel=1e-12)
    follower.follow([torch.tensor([1e-9, 0.0], dtype=torch.float64)])
    assert follower.value.item() == pytest.approx(0.01 / TargetFactor.RANGE)


def test_the_mean_is_over_weights_of_which_one_in_groups_has_the_norm_of_its_largest_block() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 1, groups=2, bias=False), nn.Linear(3, 3, bias=False)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0], [0, 0.5], [4, 0], [0, 2]]).view(4, 2, 1, 1))
        model[1].weight.copy_(9 * torch.eye(3))
    penalty = SpectralNormPenalty(model, 1.0, target_sigma=6.0, n_iterations=300)
    for _ in range(2):
        penalty.add_gradient_()
    assert penalty.target is not None
    assert penalty.target.log_mean.exp().item() == pytest.approx(6.0, rel=1e-9)  # of 4 and 9
    assert penalty.target.value == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize("target", [0.8, 3.0])
@pytest.mark.parametrize("as_loss", [False, True])
def test_the_drop_in_class_holds_sigma_at_the_target(target: float, as_loss: bool) -> None:
    """Against a loss whose gradient, that of a constant times the sum of entries, always pushes."""
    torch.manual_seed(0)
    model = nn.Linear(8, 6, bias=False)
    penalty = SpectralNormPenalty(model, 0.1, target_sigma=target)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    for _ in range(1500):
        optimizer.zero_grad()
        loss = -0.2 * model.weight.sum()
        if as_loss:
            (loss + penalty()).backward()
        else:
            loss.backward()
            penalty.add_gradient_()
        optimizer.step()
    assert torch.linalg.matrix_norm(model.weight, 2).item() == pytest.approx(target, rel=0.02)
    model.eval()
    assert penalty.target is not None
    factor = penalty.target.value.item()
    penalty()
    assert penalty.target.value.item() == factor


def test_lambda_changes_once_an_update_whatever_the_number_of_passes(tiny: Make) -> None:
    options = ("method=spectral", "method.target_sigma=1.0", "batch=large", "batch.size=32", "batch.ghost=8")
    one, four = (trained(tiny(*options, f"batch.micro={micro}"), 1) for micro in (32, 8))
    factors = [session.task.method.measures()["factor"] for session in (one, four)]
    assert factors[0] == factors[1] != 0.01


def test_the_mean_sigma_of_a_training_ends_at_the_target_and_not_without_one(tiny: Make, tmp_path: Path) -> None:
    """500 updates: within 6% of 1.0; with the same first lambda, unchanged, above 1.5."""
    options = ("setting=digits_vgg", "train.device=cpu", "train.progress=none", "track=disabled")
    fewer = (*MEASURE, "measure.every=10", "data.test_subset=50", f"results={tmp_path}")
    free, held = (
        configure(compose_tree(*options, *fewer, "method=spectral", *more))
        for more in ((), ("method.target_sigma=1.0",))
    )
    result = run(held)
    assert run(free).final["sigma_mean"] > 1.5
    assert result.final["sigma_mean"] == pytest.approx(1.0, rel=0.06)
    history = store.read(held.directory).history
    assert "factor" in history.columns
    assert "factor" not in store.read(free.directory).history.columns
    assert history["factor"].nunique() == len(history)
    mean = result.dose["factor"]
    assert mean is not None
    assert 0.01 < mean < 0.01 * TargetFactor.RANGE
    assert result.dose["e_folds"] == pytest.approx(mean * result.dose["learning_rate_sum"] / 0.1)


def test_options_are_resolved_where_they_are_built() -> None:
    assert (DecayOptions().factor, SpectralOptions().factor) == (1e-4, 0.01)
    resolved = at_dose(SpectralOptions(dose=3.0), SGDOptions(lr=0.1, momentum=0.5, drops=[]), 10)
    assert (resolved.dose, resolved.factor) == (None, pytest.approx(3.0 * 0.5 / 1.0))


def test_a_changing_lambda_is_weighted_by_the_learning_rate_in_the_record() -> None:
    model = nn.Linear(5, 4).double()
    method: Any = methods.build(SpectralOptions(target_sigma=0.9), model, torch.Generator().manual_seed(0))
    assert method.mean_factor() is None
    product = total = 0.0
    for rate in (0.1, 0.1, 0.003):
        method.set_rate(rate)
        method.regularize()
        product, total = product + rate * method.measures()["factor"], total + rate
    assert method.mean_factor() == pytest.approx(product / total, rel=1e-6)
    assert method.mean_factor() != pytest.approx(method.measures()["factor"], rel=1e-2)
