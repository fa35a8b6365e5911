"""Jacobian norms against torch's own, and both products against the bounds they are."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from sns.measure import lipschitz
from sns.measure.lipschitz import jacobian_norms, lipschitz_summary
from sns.measure.spectrum import layer_table, singular_values


def reference(model: nn.Module, x: Tensor) -> Tensor:
    model.eval()
    jacobians = [torch.autograd.functional.jacobian(lambda one: model(one[None])[0], image).flatten(1) for image in x]
    model.train()
    return torch.stack([torch.linalg.matrix_norm(jacobian, 2) for jacobian in jacobians])


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_jacobian_norms_are_exact(
    batch_size: int, model: nn.Module, x: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lipschitz, "BATCH", 9)
    assert_close(jacobian_norms(model, x, batch_size), reference(model, x), rtol=1e-10, atol=0)


def test_more_classes_than_pixels() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 7)).double()
    norms = jacobian_norms(model, torch.zeros(3, 1, 2, 2, dtype=torch.float64), 2)
    assert_close(norms, torch.linalg.matrix_norm(model[1].weight.detach(), 2).expand(3), rtol=1e-12, atol=0)


def test_summary_holds_products_and_statistics(model: nn.Module, x: Tensor) -> None:
    norms, layers = reference(model, x), layer_table(model, (2, 8, 8), singular_values(model))
    summary = lipschitz_summary(model, x, 5, layers)
    assert_close(summary["product_sigma"], math.prod(row["sigma"] for row in layers))
    assert_close(summary["product_operator_norm"], math.prod(row["operator_norm"] for row in layers))
    assert_close(summary["jacobian_norm_max"], norms.max().item(), rtol=1e-10, atol=0)
    assert_close(summary["jacobian_norm_mean"], norms.mean().item(), rtol=1e-10, atol=0)
    assert summary["samples"] == len(x)


def test_for_a_chain_the_operator_norms_bound_the_jacobian_and_the_reshaped_ones_do_not() -> None:
    """Erratum 4: two blurs and a mean, whose gain on a bright image exceeds the reshaped norm."""
    model = nn.Sequential(
        nn.Conv2d(1, 1, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.Conv2d(1, 1, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.Flatten(),
    ).double()
    for parameter in model.parameters():
        parameter.data.fill_(1 / 9)
    x = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    summary = lipschitz_summary(model, x, 5, layer_table(model, (1, 8, 8), singular_values(model)))
    assert_close(summary["product_sigma"], 1 / 9)
    assert summary["product_sigma"] < summary["jacobian_norm_max"] <= summary["product_operator_norm"] * (1 + 1e-6)


def test_broken_weights_and_no_images(model: nn.Module, x: Tensor) -> None:
    with pytest.raises(ValueError, match="0 images"):
        jacobian_norms(model, x[:0], 5)
    with torch.no_grad():
        model.head.weight[0, 0] = math.nan
    assert bool(jacobian_norms(model, x, 5).isnan().all())
