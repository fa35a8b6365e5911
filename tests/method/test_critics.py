"""The methods that Miyato et al. 2018 compare with, each against a hand-made formula."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from sns import method as methods
from sns.common.errors import ConfigError
from sns.method import METHODS, Method
from sns.method.gradient_penalty import GradientPenalty
from sns.method.spectral_normalization import SpectralNormalization
from sns.method.weight_clipping import WeightClipping

LAYERED = ("batch_norm", "layer_norm")


def critic(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.LeakyReLU(0.1),
        nn.Conv2d(4, 5, 4, stride=2, padding=1),
        nn.LeakyReLU(0.1),
        nn.Flatten(),
        nn.Linear(5 * 16, 6),
        nn.LeakyReLU(0.1),
        nn.Linear(6, 1),
    ).double()


def images(count: int = 4, seed: int = 1) -> Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def prepared(name: str, model: nn.Module, **options: object) -> Method:
    built = methods.build(METHODS[name].Config(**options), model, torch.Generator().manual_seed(3))
    built.prepare()
    return built


# Spectral normalization


def test_spectral_normalization_equals_torchs() -> None:
    """Values and gradients, once both have the leading vectors."""
    ours, theirs, x = critic(), critic(), images()
    SpectralNormalization(ours, n_iterations=500).update_()
    for layer in theirs:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            parametrizations.spectral_norm(layer, n_power_iterations=500)
    for net in (ours, theirs):
        net(x).sum().backward()
    torch.testing.assert_close(ours(x), theirs.eval()(x), rtol=1e-9, atol=0)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-7, atol=1e-10)


def test_an_update_is_one_iteration_and_evaluation_is_none() -> None:
    net = critic()
    normalization = SpectralNormalization(net)
    kept = net[0].parametrizations.weight[0]
    u = kept.u.clone()
    net(images()).sum().backward()
    net.eval()(images())
    assert torch.equal(kept.u, u)
    with torch.no_grad():
        net[0].parametrizations.weight.original.add_(torch.randn(4, 3, 3, 3, dtype=torch.float64))
    matrix, v = net[0].parametrizations.weight.original.detach().flatten(1), kept.v[0].clone()
    normalization.update_()
    expected = nn.functional.normalize(matrix @ v, dim=0)
    torch.testing.assert_close(kept.u[0], expected)
    torch.testing.assert_close(kept.v[0], nn.functional.normalize(matrix.mT @ expected, dim=0))


def test_two_forward_passes_before_a_backward_pass() -> None:
    net, first, second = critic(), images(seed=1), images(seed=2)
    normalization = SpectralNormalization(net)
    a, b = net(first).sum(), net(second).sum()
    normalization.update_()
    (a + b).backward()  # torch's old spectral_norm raised here: it wrote u in place
    together = [p.grad.clone() for p in net.parameters() if p.grad is not None]
    assert all(g.isfinite().all() for g in together)


def test_gradient_of_a_normalised_weight_is_equation_10() -> None:
    """dV/dW = (E[delta h^T] - lambda u v^T) / sigma, lambda = E[delta^T (W/sigma h)]."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 4, bias=False)).double()
    SpectralNormalization(net, n_iterations=500).update_()
    x, delta = torch.randn(7, 5, dtype=torch.float64), torch.randn(7, 4, dtype=torch.float64)
    (net(x) * delta).sum().div(7).backward()
    weight = net[0].parametrizations.weight.original
    u, s, vh = torch.linalg.svd(weight.detach())
    outer = delta.mT @ x / 7
    strength = (outer * weight.detach() / s[0]).sum()
    expected = (outer - strength * torch.outer(u[:, 0], vh[0])) / s[0]
    torch.testing.assert_close(weight.grad, expected)


# Gradient penalty


def test_the_gradient_penalty_equals_one_made_by_hand() -> None:
    """Finite differences of D give its slope at the same points."""
    net, real, fake = critic(), images(seed=1), images(seed=2)
    penalty = GradientPenalty(net, factor=7.0, generator=torch.Generator().manual_seed(5))(real, fake)
    a = torch.rand((4, 1, 1, 1), generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    x, step, norms = a * real + (1 - a) * fake, 1e-6, []
    with torch.no_grad():
        for place in range(4):
            slopes = []
            for entry in range(x[0].numel()):
                moved = torch.zeros(x[0].numel(), dtype=torch.float64)
                moved[entry] = step
                up, down = (net((x[place].flatten() + sign * moved).view(1, 3, 8, 8)).item() for sign in (1, -1))
                slopes.append((up - down) / (2 * step))
            norms.append(math.sqrt(sum(slope**2 for slope in slopes)))
    by_hand = 7.0 * sum((norm - 1) ** 2 for norm in norms) / 4
    assert penalty.item() == pytest.approx(by_hand, rel=1e-6)


def test_its_gradient_reaches_the_weights() -> None:
    net, real, fake = critic(), images(seed=1), images(seed=2)
    weight, step = net[0].weight, 1e-6

    def value() -> Tensor:
        return GradientPenalty(net, generator=torch.Generator().manual_seed(5))(real, fake)

    value().backward()
    assert weight.grad is not None
    with torch.no_grad():
        weight[1, 2, 0, 1] += step
    up = value().item()
    with torch.no_grad():
        weight[1, 2, 0, 1] -= 2 * step
    assert weight.grad[1, 2, 0, 1].item() == pytest.approx((up - value().item()) / (2 * step), rel=1e-4)


def test_it_needs_one_output() -> None:
    net = nn.Linear(3, 2)
    with pytest.raises(ConfigError, match="one output"):
        prepared("gan_gp", net).backward(lambda x, share, term: {}, torch.randn(4, 3), 1.0)


# Weights


def test_clipping() -> None:
    net = critic()
    before = [p.detach().clone() for p in net.parameters()]
    WeightClipping(net, limit=0.05).apply_()
    for old, new in zip(before, net.parameters(), strict=True):
        torch.testing.assert_close(new.detach(), old.clamp(-0.05, 0.05) if old.dim() > 1 else old, rtol=0, atol=0)


def test_weight_normalization_without_gamma() -> None:
    net = critic()
    originals = [layer.weight.detach().clone() for layer in net if hasattr(layer, "weight")]
    prepared("weight_norm", net)
    used = [layer.weight for layer in net if hasattr(layer, "weight")]
    for weight, original in zip(used, originals, strict=True):
        rows = original.flatten(1)
        torch.testing.assert_close(weight.flatten(1), rows / rows.norm(dim=1, keepdim=True))
    net(images()).sum().backward()
    trained = [name for name, p in net.named_parameters() if p.requires_grad and "original0" in name]
    assert trained == []


def test_orthonormal_initial_weights() -> None:
    net = critic()
    built = prepared("orthonormal", net, initial="orthonormal")
    for weight in built.penalty.weights:  # type: ignore[attr-defined]
        sigmas = torch.linalg.svdvals(weight.matrix())
        torch.testing.assert_close(sigmas, torch.ones_like(sigmas), rtol=1e-5, atol=0)
    assert built.regularize().item() < 1e-8  # type: ignore[union-attr]


# Activations


@pytest.mark.parametrize("name", LAYERED)
def test_inner_outputs_are_normalised_and_only_a_bias_is_learnt(name: str) -> None:
    net, seen = critic(), {}
    prepared(name, net)
    assert [hasattr(layer, "norm") for layer in net] == [False, False, True, False, False, True, False, False]
    for place in (2, 5):
        net[place].norm.bias.data.fill_(0.0)
        net[place].register_forward_hook(lambda layer, x, out: seen.__setitem__(layer, out.detach()))
        assert not net[place].norm.weight.requires_grad
        assert net[place].norm.bias.requires_grad
    net(images(16))
    for out in seen.values():
        dims = tuple(d for d in range(out.dim()) if d != 1) if name == "batch_norm" else tuple(range(1, out.dim()))
        torch.testing.assert_close(out.mean(dim=dims), torch.zeros_like(out.mean(dim=dims)), rtol=0, atol=1e-12)
        spread = out.var(dim=dims, correction=0)
        torch.testing.assert_close(spread, torch.ones_like(spread), rtol=1e-3, atol=0)
