"""Reparametrised weights against SVD and torch's own spectral_norm, in float64, and in any loop."""

import copy
import os
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import pytest
import torch
from conftest import ROOT
from mixed import Mixed
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize
from torch.testing import assert_close

from sns.common.errors import ConfigError
from sns.config.schema import Config
from sns.linalg.power_iteration import power_iteration
from sns.linalg.weights import weights_of
from sns.measure.spectrum import sigma_and_frobenius, singular_values, weight_matrices
from sns.method.reparametrization import Reparametrization
from sns.method.sigma_reparam import SigmaReparam, SigmaReparamOptions
from sns.method.spectral_normalization import SpectralNormalization, SpectralNormalizationOptions
from sns.method.stable_rank import StableRankNormalization, StableRankOptions
from sns.record import store
from sns.train import checkpoint
from sns.train.run import advance, run
from sns.train.session import start
from sns.train.stop import Interrupted

Make = Callable[..., Config]
Made = Callable[..., Reparametrization]
RANK = 0.5
pytestmark = pytest.mark.filterwarnings("ignore:.*leaves out")


def norm(matrix: Tensor) -> Tensor:
    return torch.linalg.matrix_norm(matrix, 2)


def limited(matrix: Tensor) -> Tensor:
    """Stable rank at most RANK * min(m, n): the other singular values are scaled. Only the
    gradient of the leading vectors is left out, as in the method."""
    u, _, v = torch.linalg.svd(matrix.detach())
    leading = u[:, :1] @ v[:1]
    rest = matrix / norm(matrix) - leading
    room = max(RANK * min(matrix.shape) - 1, 0.0)
    energy = torch.linalg.svdvals(rest.detach()).square().sum()
    return leading + (rest * room**0.5 / torch.linalg.matrix_norm(rest) if energy > room else rest)


DENSE: dict[str, tuple[Made, Callable[[Tensor], Tensor]]] = {
    "spectral_normalization": (SpectralNormalization, lambda w: w / norm(w)),
    "spectral_normalization of norm 3": (
        lambda model, **options: SpectralNormalization(model, norm=3.0, **options),
        lambda w: 3 * w / norm(w),
    ),
    "sigma_reparam": (SigmaReparam, lambda w: w / norm(w)),
    "sigma_reparam from sigma": (
        lambda model, **options: SigmaReparam(model, gamma="sigma", **options),
        lambda w: w * (norm(w).detach() / norm(w)),
    ),
    "stable_rank": (lambda model, **options: StableRankNormalization(model, rank=RANK, **options), limited),
    "stable_rank of norm 3": (
        lambda model, **options: StableRankNormalization(model, rank=RANK, norm=3.0, **options),
        lambda w: 3 * limited(w),
    ),
}


def trained(model: nn.Module) -> dict[str, Tensor]:
    """The gradient of every trained weight, by its name without our parametrisation."""
    return {
        name.replace("parametrizations.", "").removesuffix(".original"): p.grad
        for name, p in model.named_parameters()
        if p.grad is not None and not name.endswith("gamma")
    }


def weighted(matrices: Iterator[Tensor]) -> Tensor:
    """A loss with another gradient for each entry of each matrix."""
    draw = torch.Generator().manual_seed(3)
    return torch.stack([(m * torch.randn(m.shape, generator=draw, dtype=m.dtype)).sum() for m in matrices]).sum()


@pytest.mark.parametrize("name", DENSE)
def test_every_kind_of_layer_uses_what_the_svd_gives(name: str) -> None:
    """Values and gradients, once the power iteration has converged."""
    make, dense = DENSE[name]
    ours, reference = Mixed(), Mixed()
    names = list(weight_matrices(ours))
    make(ours, n_iterations=3000).update_()
    assert list(weight_matrices(ours)) == names
    expected = [dense(matrix) for matrix in reference.matrices()]
    assert_close(list(ours.matrices()), expected, rtol=1e-7, atol=1e-9)
    weighted(ours.matrices()).backward()
    weighted(iter(expected)).backward()
    actual, wanted = trained(ours), trained(reference)
    assert actual.keys() == wanted.keys()
    assert_close(actual, {key: wanted[key] for key in actual}, rtol=1e-5, atol=1e-7)
    assert ours.again.parametrizations.weight.original is ours.tied.parametrizations.weight.original
    assert torch.equal(ours.again.weight, ours.tied.weight)


def test_measurements_show_the_weights_that_are_used() -> None:
    model = Mixed()
    StableRankNormalization(model, rank=RANK, n_iterations=3000).update_()
    values = {name: v for name, v in singular_values(model).items() if name != "frozen.weight"}
    assert_close(torch.stack([v[0] for v in values.values()]), torch.ones(len(values), dtype=torch.float64))
    for v in values.values():
        assert v.square().sum() <= max(1.0, RANK * len(v)) + 1e-6
    assert sigma_and_frobenius(model)["sigma_max"] == pytest.approx(norm(model.frozen.weight).item())


def test_gamma_is_learnt_one_for_each_matrix() -> None:
    model = Mixed()
    SigmaReparam(model, n_iterations=3000).update_()
    weighted(model.matrices()).backward()
    gammas = {n: p for n, p in model.named_parameters() if n.endswith("gamma")}
    counts = {"attention.parametrizations.in_proj_weight.0.gamma": 3, "grouped.parametrizations.weight.0.gamma": 1}
    assert {name: len(gammas[name]) for name in counts} == counts
    draws = torch.Generator().manual_seed(3)
    matrices = [m.detach() for m in model.matrices()]
    slopes = [(m * torch.randn(m.shape, generator=draws, dtype=m.dtype)).sum() for m in matrices]
    assert_close(gammas["tied.parametrizations.weight.0.gamma"].grad, slopes[0].view(1))  # d / d gamma at gamma = 1
    assert_close(gammas["attention.parametrizations.in_proj_weight.0.gamma"].grad, torch.stack(slopes[1:4]))


def network(spectral: Callable[[nn.Module], nn.Module] = lambda layer: layer) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 4, 3, padding=1), nn.ConvTranspose2d(4, 3, 2, stride=2), nn.Linear(3 * 12 * 12, 5)]
    first, up, last = (spectral(layer.double()) for layer in layers)
    return nn.Sequential(first, nn.ReLU(), up, nn.ReLU(), nn.Flatten(), last)


def images(n: int = 4) -> Tensor:
    return torch.randn(n, 2, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def vectors(model: nn.Module) -> list[Tensor]:
    """u and v of every layer, in order: ours, or torch's."""
    return [b.flatten() for name, b in model.named_buffers() if name.rpartition(".")[2].strip("_") in ("u", "v")]


def test_it_trains_as_torchs_own_spectral_norm_does() -> None:
    """Outputs, gradients and vectors over five steps, from the same vectors."""
    ours, theirs = network(), network(parametrizations.spectral_norm)
    normalization = SpectralNormalization(ours)
    optimizers = [torch.optim.SGD(model.parameters(), 0.5) for model in (ours, theirs)]
    x = images()
    for step in range(5):
        outputs = theirs(x)  # makes its power iteration first
        if step == 0:
            for own, other in zip(vectors(ours), vectors(theirs), strict=True):
                own.copy_(other)
        assert_close(vectors(ours), vectors(theirs))
        assert_close(ours(x), outputs)
        ours.eval()
        ours(x)
        ours.train()
        for model, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            if model is ours:
                ours(x).square().sum().backward()
            else:
                outputs.square().sum().backward()
        assert_close([p.grad for p in ours.parameters()], [p.grad for p in theirs.parameters()])
        for optimizer in optimizers:
            optimizer.step()
        normalization.update_()


def test_the_gradient_is_equation_10() -> None:
    """(E[delta h^T] - lambda u v^T) / sigma with lambda = E[delta^T (W / sigma) h]."""
    torch.manual_seed(0)
    layer = nn.Linear(5, 3, bias=False).double()
    trained, h = layer.weight, torch.randn(7, 5, dtype=torch.float64)
    SpectralNormalization(layer, n_iterations=2000).update_()
    output = layer(h)
    output.retain_grad()
    output.tanh().sum(dim=1).mean().backward()
    delta = output.grad * len(h)  # of each example
    u, s, v = torch.linalg.svd(trained.detach())
    factor = (delta * (h @ (trained.detach() / s[0]).T)).sum(1).mean()
    expected = ((delta.unsqueeze(2) * h.unsqueeze(1)).mean(0) - factor * u[:, :1] @ v[:1]) / s[0]
    assert_close(trained.grad, expected)
    assert abs(factor) > 0.1  # the second term counts


def test_one_iteration_an_update_and_none_in_a_pass() -> None:
    model = network()
    normalization = SpectralNormalization(model)
    (weight, *_), start = weights_of(model), vectors(model)[1].clone()
    original = model[0].parametrizations.weight.original.detach().flatten(1)
    seen = [vector.clone() for vector in vectors(model)]
    outputs = [model.train(training)(images()) for training in (True, False, True)]
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])
    assert all(torch.equal(a, b) for a, b in zip(vectors(model), seen, strict=True))
    for _ in range(3):
        normalization.update_()
    sigma, u, v = power_iteration(original, start, 3)
    assert_close(vectors(model)[:2], [u, v])
    assert_close(weight.matrix(), original / sigma)
    for n in (2, 0):
        if n == 0:
            with pytest.raises(ConfigError, match="n_iterations=0 must be at least 1"):
                SpectralNormalization(network(), n_iterations=n)
        else:
            twice = SpectralNormalization(network(), n_iterations=n)
            twice.update_()
            assert_close(twice.layers[0][1].v[0], power_iteration(original, start, n)[2])


@pytest.mark.parametrize("name", DENSE)
def test_passes_and_an_update_may_come_before_a_backward(name: str) -> None:
    """As torch's own does not allow (pytorch 66363): a graph holds no vector that changes."""
    model = network()
    normalization = DENSE[name][0](model)
    separate = copy.deepcopy(model)
    first, second = model(images()).sum(), model(images(2) * 2).square().sum()
    normalization.update_()
    (first + second).backward()
    separate(images()).sum().backward()
    separate(images(2) * 2).square().sum().backward()
    assert_close([p.grad for p in model.parameters()], [p.grad for p in separate.parameters()])


@pytest.mark.parametrize("name", DENSE)
def test_gradients_of_gradients_are_right(name: str) -> None:
    """As a Hessian and a gradient penalty need them."""
    for layer in (nn.Linear(4, 3), nn.Conv1d(4, 6, 2, groups=2), nn.ConvTranspose1d(2, 3, 2)):
        DENSE[name][0](layer.double())
        (made,) = layer.parametrizations.weight
        tensor = layer.parametrizations.weight.original
        assert torch.autograd.gradcheck(made, tensor)
        assert torch.autograd.gradgradcheck(made, tensor)


@pytest.mark.parametrize("name", DENSE)
def test_the_models_state_has_the_vectors_and_a_copy_its_own(name: str) -> None:
    model, other = network(), network()
    normalization, _ = DENSE[name][0](model), DENSE[name][0](other, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, dtype=torch.float64), alpha=0.1)
    duplicate, before = copy.deepcopy(model), vectors(model)[1].clone()
    normalization.update_()
    assert not torch.equal(model(images()), duplicate(images()))
    assert torch.equal(vectors(duplicate)[1], before)
    assert not torch.equal(other(images()), model(images()))
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(images()), model(images()))


@pytest.mark.parametrize("name", DENSE)
def test_memory_format_autocast_and_16_bits(name: str) -> None:
    model = network().float()
    normalization = DENSE[name][0](model)
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    moved = DENSE[name][0](network().float().to(memory_format=torch.channels_last))
    assert_close(last[0].weight, model[0].weight)
    assert not last[0].weight.is_contiguous()
    assert_close(vectors(last), [v.flatten() for _, m in moved.layers for v in (m.u, m.v)])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model[0].weight, copy.deepcopy(model)[0].weight)
        inside = model[0].weight
    assert torch.equal(inside, model[0].weight)
    wide = model[0].weight.detach()
    model.bfloat16()
    normalization.update_()
    assert model[0].weight.dtype == torch.bfloat16
    assert_close(model[0].weight.float(), wide, rtol=0.03, atol=0.02)


def test_recurrent_layers_use_the_weights_that_are_shown() -> None:
    """torch's own forward pass would use the trained tensors."""
    torch.manual_seed(0)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    for layer in (nn.LSTM(3, 4, num_layers=2), nn.GRU(3, 4), nn.RNN(3, 4)):
        reference = copy.deepcopy(layer.double())
        SpectralNormalization(layer)
        used, _ = layer(x)
        assert not torch.allclose(used, reference(x)[0])
        with torch.no_grad():
            for name in reference._flat_weights_names:
                getattr(reference, name).copy_(getattr(layer, name))
        assert_close(used, reference(x)[0])
        assert_close(copy.deepcopy(layer)(x)[0], used)


def test_what_is_reparametrised_can_be_assigned_and_made_plain_again() -> None:
    model = network()
    StableRankNormalization(model, rank=RANK)
    assigned = torch.ones(5, 3 * 12 * 12, dtype=torch.float64)
    model[5].weight = assigned
    assert torch.equal(model[5].parametrizations.weight.original, assigned)
    before = model(images())
    for layer in (model[0], model[2], model[5]):
        parametrize.remove_parametrizations(layer, "weight")
    assert not any(parametrize.is_parametrized(layer) for layer in model)
    assert torch.equal(model(images()), before)


def test_extremes_of_a_weight() -> None:
    """A zero matrix, and a rank so small that one singular value is left, give finite gradients."""
    layer = nn.Linear(4, 3)
    nn.init.zeros_(layer.weight)
    SpectralNormalization(layer)
    assert torch.equal(layer.weight, torch.zeros(3, 4))
    single = nn.Linear(4, 3).double()
    StableRankNormalization(single, rank=0.01, n_iterations=200).update_()
    assert_close(torch.linalg.svdvals(single.weight), torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64))
    single.weight.sum().backward()
    assert single.parametrizations.weight.original.grad.isfinite().all()
    row = nn.Linear(3, 1)
    with torch.no_grad():
        row.weight.copy_(torch.tensor([[2.0, 0.0, 0.0]]))  # nothing beside the leading part
    StableRankNormalization(row, rank=RANK)
    assert torch.equal(row.weight, torch.tensor([[1.0, 0.0, 0.0]]))
    whole = nn.Linear(4, 3).double()
    tensor = whole.weight.detach().clone()
    StableRankNormalization(whole, rank=1.0, n_iterations=2000).update_()
    assert_close(whole.weight.detach(), tensor / norm(tensor))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: StableRankNormalization(network(), rank=0.0), "rank=0.0 must lie"),
        (lambda: SpectralNormalization(network(), norm=0.0), "norm=0.0 must be positive"),
        (lambda: SpectralNormalizationOptions(norm=-1.0), "method.norm=-1.0"),
        (lambda: SigmaReparam(network(), gamma="two"), "gamma=two is unknown"),
        (lambda: StableRankOptions(rank=1.5), "method.rank=1.5"),
        (lambda: SigmaReparamOptions(gamma="two"), "method.gamma=two"),
        (lambda: SigmaReparamOptions(n_iterations=0), "method.n_iterations=0"),
        (lambda: SpectralNormalization(nn.ReLU()), "SpectralNormalization needs weight matrices"),
    ],
)
def test_options_out_of_range_are_one_sentence(make: Callable[[], Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make()


@pytest.mark.parametrize("optim", ["nesterov", "adamw", "muon"])
@pytest.mark.parametrize("method", ["sigma_reparam", "stable_rank"])
def test_a_stopped_run_equals_an_uninterrupted_one(tiny: Make, tmp_path: Any, method: str, optim: str) -> None:
    """With every kind of optimizer, in several passes; and the record shows a norm of about 1."""
    options = (f"method={method}", f"optim={optim}", "batch=large", "batch.size=16", "batch.ghost=8", "batch.micro=8")
    options += ("measure.hessian=false", "measure.spectra=false", "optim.lr=0.01")
    whole = tiny(*options)
    pieces = tiny(*options, f"results={tmp_path / 'pieces'}", "train.stop_after=5")
    assert run(whole).status == "ok"
    while not store.is_finished(pieces.directory):
        try:
            run(pieces)
        except Interrupted:
            torch.manual_seed(7)
    a, b = (
        store.read(config.directory).history.drop(columns=["train_seconds", "measure_seconds"])
        for config in (whole, pieces)
    )
    pd.testing.assert_frame_equal(a, b, check_exact=True)
    x, y = (checkpoint.load(config.directory)["task"]["model"] for config in (whole, pieces))  # type: ignore[index]
    assert all(torch.equal(x[key], y[key]) for key in x)
    assert a["sigma_max"].iloc[-1] == pytest.approx(1.0, abs=0.2)
    assert (a["penalty"] == 0).all()


def test_an_update_of_several_passes_makes_one_iteration(tiny: Make) -> None:
    session = start(
        tiny("method=spectral_normalization", "batch=large", "batch.size=16", "batch.ghost=8", "batch.micro=8")
    )
    made = [made for _, made in session.task.method.reparametrization.layers]
    before = [one.v.clone() for one in made]
    advance(session)
    for one, v, weight in zip(made, before, weights_of(session.task.model), strict=True):
        original = weight.module.parametrizations["weight"].original.detach()
        sigma, u, new = power_iteration(original.flatten(1).unsqueeze(0), v)
        assert_close([one.u, one.v], [u, new])
        assert_close(weight.tensor.detach(), original / sigma)


SHARED = """
import os, sys
import torch, torch.distributed as dist
sys.path.insert(0, sys.argv[1])
from method.test_reparametrization import SigmaReparam, images, network, vectors
dist.init_process_group("gloo")
rank = dist.get_rank()
model = network()
made = SigmaReparam(model)
shared = torch.nn.parallel.DistributedDataParallel(model)
optimizer = torch.optim.SGD(shared.parameters(), 0.1)
for _ in range(3):
    optimizer.zero_grad()
    half = images().chunk(2)[rank]
    (shared(half).square().mean() + shared(2 * half).mean()).backward()
    optimizer.step()
    made.update_()
state = torch.cat([p.detach().flatten() for p in [*model.parameters(), *vectors(model)]])
if rank == 0:
    torch.save(state, sys.argv[2])
other = state.clone()
dist.broadcast(other, 0)
assert torch.equal(state, other)
dist.destroy_process_group()
"""


def test_two_processes_train_what_one_does(tmp_path: Any) -> None:
    """torch's DistributedDataParallel, with two passes before each backward pass."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    arguments = [sys.executable, "-c", SHARED, str(ROOT / "tests"), str(tmp_path / "state.pt")]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    place["PYTHONPATH"] = f"{ROOT}:{ROOT / 'tests'}"
    both = [subprocess.Popen(arguments, env=os.environ | place | {"RANK": str(rank)}) for rank in (0, 1)]
    try:
        assert [process.wait(timeout=300) for process in both] == [0, 0]
    finally:
        for process in both:
            process.kill()
    model = network()
    made = SigmaReparam(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (model(images()).square().mean() + model(2 * images()).mean()).backward()
        optimizer.step()
        made.update_()
    state = torch.cat([p.detach().flatten() for p in [*model.parameters(), *vectors(model)]])
    assert_close(torch.load(tmp_path / "state.pt"), state)


def test_what_is_left_out_is_named() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        SpectralNormalization(Mixed())
    assert any("SpectralNormalization leaves out embedding.weight, bilinear.weight" in str(w.message) for w in caught)
