"""Measuring changes nothing, and the hash that shows it notices every change."""

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from state_hash import state_hash
from torch import Tensor, nn

from sns.config.schema import MeasureConfig
from sns.measure.evaluation import evaluate, gradient_norms, probe_indices
from sns.measure.hessian import hessian_split
from sns.measure.lipschitz import lipschitz_summary
from sns.measure.spectrum import layer_table, sigma_and_frobenius, singular_values, weight_matrices
from sns.measure.state import unchanged

SHORT = MeasureConfig(hessian_samples=10, hessian_iterations=3, lanczos=True, batch_size=8)
MEASUREMENTS: dict[str, Callable[[nn.Module, Tensor, Tensor], object]] = {
    "evaluate": lambda model, x, y: evaluate(model, x, y, 5, probe_indices(len(x), 7)),
    "gradient_norms": lambda model, x, y: gradient_norms(model, x, y, 5),
    "hessian_split": lambda model, x, y: hessian_split(model, x, y, SHORT),
    "weight_matrices": lambda model, x, y: weight_matrices(model),
    "sigma_and_frobenius": lambda model, x, y: sigma_and_frobenius(model),
    "layer_table": lambda model, x, y: layer_table(model, tuple(x.shape[1:]), singular_values(model)),
    "singular_values": lambda model, x, y: singular_values(model),
    "lipschitz_summary": lambda model, x, y: lipschitz_summary(model, x, 4, [{"sigma": 1.0, "operator_norm": 2.0}]),
}


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_measuring_leaves_no_trace(name: str, model: nn.Module, x: Tensor, y: Tensor) -> None:
    model.train()
    model.pool.eval()
    model.stem[2].eval()  # flags that differ from module to module
    nn.functional.cross_entropy(model(x), y).backward()
    gradients = [(p.grad, p.grad.clone(), p.requires_grad) for p in model.parameters()]
    images, flags = x.clone(), [module.training for module in model.modules()]
    before = state_hash(model), torch.get_rng_state(), repr(np.random.get_state()), random.getstate()
    MEASUREMENTS[name](model, x, y)
    after = state_hash(model), torch.get_rng_state(), repr(np.random.get_state()), random.getstate()
    assert before[0] == after[0]
    assert torch.equal(before[1], after[1])
    assert before[2:] == after[2:]
    assert flags == [module.training for module in model.modules()]
    for parameter, (gradient, value, requires_grad) in zip(model.parameters(), gradients, strict=True):
        assert parameter.grad is gradient
        assert torch.equal(gradient, value)
        assert parameter.requires_grad == requires_grad
    assert torch.equal(x, images)
    assert not x.requires_grad
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_inside_the_model_is_in_evaluation_mode_and_strays_are_undone(model: nn.Module, x: Tensor) -> None:
    model(x).sum().backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    state = torch.get_rng_state()
    with unchanged(model):
        assert not any(module.training for module in model.modules())
        model(x).sum().backward()
        torch.rand(3)
    assert all(module.training for module in model.modules())
    assert torch.equal(state, torch.get_rng_state())
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        assert torch.equal(parameter.grad, gradient)


def fail_while_measuring(model: nn.Module) -> None:
    with unchanged(model):
        torch.rand(1)
        raise RuntimeError("broken")


def test_everything_is_put_back_when_measuring_fails(model: nn.Module) -> None:
    before, state = state_hash(model), torch.get_rng_state()
    with pytest.raises(RuntimeError, match="broken"):
        fail_while_measuring(model)
    assert state_hash(model) == before
    assert torch.equal(state, torch.get_rng_state())


def test_hash_sees_every_kind_of_change(model: nn.Module, x: Tensor) -> None:
    seen = {state_hash(model)}
    assert state_hash(model) in seen
    model(x)  # running statistics
    seen.add(state_hash(model))
    model.pool.eval()
    seen.add(state_hash(model))
    with torch.no_grad():
        model.head.bias[0] = 0.0
        seen.add(state_hash(model))
        model.head.bias[0] = -0.0
    seen.add(state_hash(model))
    model.float()
    seen.add(state_hash(model))
    assert len(seen) == 6
