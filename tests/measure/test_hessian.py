"""The Hessian of a model's loss: evaluation mode, all parameters, any batches."""

import json

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.testing import assert_close

from sns.common.seed import generator
from sns.config.schema import MeasureConfig
from sns.measure.evaluation import probe_indices
from sns.measure.hessian import hessian_eigenvalue, hessian_split


def config(**options: object) -> MeasureConfig:
    return MeasureConfig(**({"hessian_tolerance": 1e-11, "hessian_iterations": 3000, "batch_size": 48} | options))


def largest(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """By numpy from all second derivatives, in evaluation mode, without weight decay."""
    model.eval()
    names, shapes = zip(*((name, p.shape) for name, p in model.named_parameters() if p.requires_grad), strict=True)

    def loss(flat: Tensor) -> Tensor:
        parts = flat.split([shape.numel() for shape in shapes])
        values = {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
        return F.cross_entropy(functional_call(model, values, (x,)), y)

    flat = torch.cat([p.detach().flatten() for p in model.parameters() if p.requires_grad])
    hessian = torch.autograd.functional.hessian(loss, flat)
    model.train()
    return float(np.linalg.eigvalsh(hessian.numpy())[-1])


def test_eigenvalue_is_that_of_the_whole_hessian(model: nn.Module, x: Tensor, y: Tensor) -> None:
    for images, labels in ((x[:14], y[:14]), (x[14:], y[14:])):
        measured = hessian_split(model, images, labels, config(lanczos=True))
        expected = largest(model, images, labels)
        assert measured["converged"]
        assert measured["samples"] == len(images)
        assert_close(measured["eigenvalue"], expected, rtol=1e-8, atol=0)
        assert_close(measured["lanczos_eigenvalue"], expected, rtol=1e-8, atol=0)
        assert json.loads(json.dumps(measured)) == measured


@pytest.mark.parametrize("batch_size", [4, 28, 4000])
def test_batches_of_any_size_give_one_hessian(batch_size: int, model: nn.Module, x: Tensor, y: Tensor) -> None:
    """23 images in batches of 1, of 7 (the last of 2), and in one."""
    options = {"hessian_iterations": 4}
    whole = hessian_eigenvalue(model, x, y, config(batch_size=92, **options), generator(0, "probe"))
    parts = hessian_eigenvalue(model, x, y, config(batch_size=batch_size, **options), generator(0, "probe"))
    assert_close(parts.eigenvalue, whole.eigenvalue, rtol=1e-12, atol=0)


def test_samples_are_the_probe_and_repeat(model: nn.Module, x: Tensor, y: Tensor) -> None:
    options = config(hessian_samples=9)
    measured, few = (hessian_split(model, x[:n], y[:n], options) for n in (len(x), 5))
    chosen = probe_indices(len(x), 9)
    assert_close(measured["eigenvalue"], largest(model, x[chosen], y[chosen]), rtol=1e-8, atol=0)
    assert (measured["samples"], few["samples"]) == (9, 5)
    assert hessian_split(model, x, y, options) == measured


def test_lanczos_fields_only_where_asked(model: nn.Module, x: Tensor, y: Tensor) -> None:
    plain = hessian_split(model, x, y, config(hessian_iterations=2))
    assert set(plain) == {"eigenvalue", "residual", "iterations", "converged", "largest_magnitude", "samples"}


def test_frozen_parameters_are_left_out(model: nn.Module, x: Tensor, y: Tensor) -> None:
    every = largest(model, x, y)
    model.head.requires_grad_(False)
    result = hessian_eigenvalue(model, x, y, config(), generator(0, "probe"))
    assert_close(result.eigenvalue, largest(model, x, y), rtol=1e-8, atol=0)
    assert result.eigenvalue < 0.999 * every


def test_empty_data_is_refused(model: nn.Module, x: Tensor, y: Tensor) -> None:
    with pytest.raises(ValueError, match="0 images"):
        hessian_eigenvalue(model, x[:0], y[:0], config(), generator(0, "probe"))
