"""Generative adversarial networks: the losses, what an update trains, resume, results."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
import torch
from conftest import compose_tree
from omegaconf import OmegaConf
from stand_in import StandIn
from state_hash import state_hash
from torch import Tensor
from torch.nn import functional as F

from sns.common.errors import ConfigError, UserError
from sns.config.schema import Config
from sns.linalg.weights import weights_of
from sns.measure.features import from_bytes
from sns.measure.samples import SampleScores
from sns.record import store
from sns.record.schema import LAYERS_CSV, SPECTRA_CSV
from sns.task.gan import SAMPLES, Gan, pixel_variance
from sns.task.gan_losses import DISCRIMINATOR, GENERATOR
from sns.train import checkpoint
from sns.train.configure import configure
from sns.train.run import advance, run
from sns.train.session import Session, start
from sns.train.stop import Interrupted

Make = Callable[..., Config]
RIVALS = ("vanilla", "spectral_normalization", "weight_clipping", "gan_gp", "wgan_gp", "batch_norm", "layer_norm")
RIVALS += ("weight_norm", "orthonormal", "spectral")


@pytest.fixture
def gan(tmp_path: Any) -> Make:
    """A configuration that trains in a second."""

    def make(*overrides: str) -> Config:
        small = ("data.subset=200", "task.samples=60", "task.real_samples=60", "task.imagenet=false")
        general = ("train.progress=none", "train.device=cpu", "track=disabled", f"results={tmp_path}")
        short = ("batch.size=16", "train.epochs=2", "measure.every=1", "model.widths=[4,6,8]")
        return configure(compose_tree("setting=sngan_digits", *small, *general, *short, *overrides))

    return make


def stepped(config: Config, updates: int) -> Session:
    session = start(config)
    for _ in range(updates):
        advance(session)
    return session


def task_of(session: Session) -> Gan:
    assert isinstance(session.task, Gan)
    return session.task


def weights(session: Session) -> dict[str, Tensor]:
    task = task_of(session)
    return {**task.parts["model"].state_dict(), **{f"method {k}": v for k, v in task.method.state_dict().items()}}


# Losses


def test_the_logistic_losses_are_cross_entropies() -> None:
    """-log D(x) - log(1 - D(G(z))), and the generator's -log D(G(z)); D: sigmoid of the output."""
    real, fake = torch.randn(2, 9, 1, dtype=torch.float64)
    one, zero = torch.ones_like(real), torch.zeros_like(real)
    cross_entropy = F.binary_cross_entropy_with_logits
    expected = cross_entropy(real, one) + cross_entropy(fake, zero)
    torch.testing.assert_close(DISCRIMINATOR["logistic"](real, fake), expected)
    torch.testing.assert_close(GENERATOR["logistic"](fake), cross_entropy(fake, one))


def test_hinge_and_wasserstein_by_hand() -> None:
    real, fake = torch.tensor([[2.0], [0.5], [-1.0]]), torch.tensor([[-3.0], [0.25], [1.0]])
    assert DISCRIMINATOR["hinge"](real, fake).item() == pytest.approx((0 + 0.5 + 2 + 0 + 1.25 + 2) / 3)
    assert GENERATOR["hinge"](fake).item() == pytest.approx(1.75 / 3)
    assert DISCRIMINATOR["wasserstein"](real, fake).item() == pytest.approx(-1.75 / 3 - 0.5)


def test_pixels_cover_minus_one_to_one() -> None:
    """256 grey levels, each an interval of 2/256."""
    x = torch.tensor([0.0, 255.0])
    torch.testing.assert_close(from_bytes(x, 0.0), torch.tensor([-1.0, 1.0 - 2 / 256]))
    torch.testing.assert_close(from_bytes(x, 1.0), torch.tensor([-1.0 + 2 / 256, 1.0]))


# An update


@pytest.mark.parametrize("method", RIVALS)
def test_every_rival_trains_and_its_record_is_whole(gan: Make, method: str) -> None:
    config = gan(f"method={method}")
    result = run(config)
    record = store.read(config.directory)
    assert result.status == "ok"
    assert config.task.loss == ("wasserstein" if method == "wgan_gp" else "logistic")
    assert [name for name in record.history.columns if name.startswith("sigma_")] == [f"sigma_{i}" for i in range(1, 7)]
    assert record.history["g_gradient_norm"].gt(0).all()
    assert all((config.directory / file).is_file() for file in (SAMPLES, LAYERS_CSV, SPECTRA_CSV))
    last = record.history.iloc[-1]
    assert record.layers is not None
    for place, sigma in enumerate(record.layers["sigma"], start=1):
        assert last[f"sigma_{place}"] == pytest.approx(sigma, rel=1e-9)
    if method == "spectral_normalization":
        assert last["sigma_3"] == pytest.approx(1, rel=0.05)


def test_methods_act_on_the_discriminator_alone(gan: Make) -> None:
    task = task_of(stepped(gan("method=weight_clipping"), 2))
    assert all(weight.matrix().abs().max() <= 0.01 for weight in weights_of(task.d))
    assert max(weight.matrix().abs().max() for weight in weights_of(task.g)) > 0.03


def test_one_update_by_hand(gan: Make) -> None:
    """Two updates of D and one of G, by torch's Adam and plain autograd, with equal draws."""
    config = gan("task.n_dis=2", "data.subset=64")
    session, other = stepped(config, 1), start(config)
    task = task_of(other)
    g, d, settings = task.g, task.d, {"lr": 2e-4, "betas": (0.5, 0.999)}
    of_g, of_d = torch.optim.Adam(g.parameters(), **settings), torch.optim.Adam(d.parameters(), **settings)
    task.draw()
    for index in task.index.split(16):
        x = task.dataset.train.x[index]
        real = (x * 255 + torch.rand(x.shape, generator=task.noise)) / 128 - 1
        fake = g(torch.randn(16, 128, generator=task.latent)).detach()
        of_d.zero_grad()
        (F.softplus(-d(real)).mean() + F.softplus(d(fake)).mean()).backward()
        of_d.step()
    of_g.zero_grad()
    F.softplus(-d(g(torch.randn(16, 128, generator=task.latent)))).mean().backward()
    of_g.step()
    for (name, a), b in zip(weights(session).items(), weights(other).values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6, msg=name)


def test_the_moving_average_makes_the_samples(gan: Make) -> None:
    session = start(gan("task.ema=0.9"))
    task = task_of(session)
    assert task.average is not None
    first = [p.detach().clone() for p in task.g.parameters()]
    advance(session)
    for old, new, mean in zip(first, task.g.parameters(), task.average.parameters(), strict=True):
        torch.testing.assert_close(mean, 0.9 * old + 0.1 * new)
    with torch.no_grad():
        for parameter in task.average.parameters():
            parameter.zero_()
    assert pixel_variance(task.samples(8)) == 0


def test_evaluating_changes_nothing_and_repeats(gan: Make) -> None:
    session = stepped(gan("method=batch_norm"), 3)
    task = task_of(session)
    before, states = state_hash(task.parts["model"]), [g.get_state() for g in task.generators]
    first, running = task.samples(70), torch.get_rng_state()
    task.evaluate()
    assert torch.equal(task.samples(40), first[:40])
    assert state_hash(task.parts["model"]) == before
    assert torch.equal(torch.get_rng_state(), running)
    assert all(torch.equal(a, g.get_state()) for a, g in zip(states, task.generators, strict=True))


def test_scores_may_draw_more_samples_than_an_evaluation(gan: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the inception score does. The first ones are those of the evaluation."""
    drawn: list[Tensor] = []
    monkeypatch.setattr(SampleScores, "scores", lambda self, sample: drawn.extend(map(sample, (20, 60, 150))) or {})
    run(gan())
    assert [len(images) for images in drawn] == [20, 60, 150]
    assert all(torch.equal(images[:20], drawn[0]) for images in drawn)


# Resume and modes


@pytest.mark.parametrize("options", [("method=spectral_normalization",), ("method=wgan_gp", "task.ema=0.9")])
def test_a_run_resumes_to_the_bit(gan: Make, options: tuple[str, ...]) -> None:
    whole, parts = (gan(*options, "task.n_dis=2", f"experiment.name={name}") for name in ("whole", "parts"))
    run(whole)
    with pytest.raises(Interrupted):
        run(gan(*options, "task.n_dis=2", "experiment.name=parts", "train.stop_after=17"))
    run(parts)
    a, b = (store.read(c.directory).history.drop(columns=["train_seconds", "measure_seconds"]) for c in (whole, parts))
    pd.testing.assert_frame_equal(a, b, check_exact=True)
    x, y = (checkpoint.load(c.directory) for c in (whole, parts))
    assert x is not None
    assert y is not None
    assert all(torch.equal(x["task"]["model"][name], y["task"]["model"][name]) for name in x["task"]["model"])


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("method", RIVALS)
def test_captured_equals_eager(gan: Make, method: str) -> None:
    options = (f"method={method}", "train.device=cuda", "task.n_dis=2", "task.ema=0.9")
    eager, captured = (stepped(gan(*options, f"train.mode={mode}"), 8) for mode in ("eager", "graph"))
    assert captured.mode == "graph"
    assert StandIn.counts["replays"] == 5
    a, b = weights(eager), weights(captured)
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_the_linear_schedule_ends_near_zero(gan: Make) -> None:
    session = start(gan("optim.decay_from=0.5", "train.epochs=1"))
    rates = []
    while session.step < session.total:
        advance(session)
        rates.append(session.rate)
    assert session.total == 12
    assert rates[:7] == [2e-4] * 7
    assert rates[7:] == pytest.approx([2e-4 * left / 6 for left in (5, 4, 3, 2, 1)])


# Results and mistakes


def test_divergence_and_collapse_are_results(gan: Make) -> None:
    diverged = run(gan("optim.lr=1e15", "task.loss=wasserstein"))
    assert diverged.status == "diverged"
    assert diverged.reason is not None
    fine = run(gan("experiment.name=fine"))
    assert fine.measured["samples"]["collapsed"] is (
        fine.measured["samples"]["variance"] < 0.05 * fine.measured["samples"]["real_variance"]
    )
    assert run(gan("experiment.name=strict", "task.collapse=1e6")).measured["samples"]["collapsed"] is True


@pytest.mark.parametrize(
    ("override", "error", "says"),
    [
        ("data.gcn=std", ConfigError, "must be none"),
        ("data.flip=true", ConfigError, "does not augment"),
        ("batch.ghost=8", ConfigError, "does not split"),
        ("measure.precision=bf16", ConfigError, "measures in fp32"),
        ("task.loss=l2", ConfigError, "logistic, hinge, wasserstein"),
        ("task.n_dis=0", ConfigError, "at least 1"),
        ("task.ema=1.5", ConfigError, "between 0 and 1"),
    ],
)
def test_mistakes_are_one_sentence(gan: Make, override: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        start(gan(override))


@pytest.mark.parametrize(
    ("setting", "model", "says"),
    [("sngan_digits", "densenet", "is no GAN"), ("digits_vgg", "sngan_cnn", "is a GAN, no classifier")],
)
def test_a_model_of_another_task_is_refused(setting: str, model: str, says: str) -> None:
    tree = dict(compose_tree(f"setting={setting}", "train.device=cpu"))
    with pytest.raises(UserError, match=says):
        start(configure(OmegaConf.create(tree | {"model": {"name": model}})))
