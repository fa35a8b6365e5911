"""How loose section 3.1's bound is: products of layer norms against the largest Jacobian norm."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sns.common.precision import full_precision
from sns.measure.state import unchanged

BATCH = 64  # images whose Jacobians (classes x pixels) are in memory at a time


def lipschitz_summary(
    model: nn.Module, x: Tensor, batch_size: int, layers: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    """The fields of `Result.lipschitz`, for images x (N, C, H, W) and the model's `layer_table`.

    product_sigma: product of the reshaped matrices' largest singular values, as in section 3.1. It
    bounds nothing, because the reshaped norm is not the layer's (erratum 4).

    product_operator_norm: product of the layers' true norms. It bounds the Lipschitz constant of a
    plain chain of these layers with 1-Lipschitz activations and pools. It is no bound for a network
    with batch norm, which rescales by gamma / deviation, or with concatenation, which adds paths.

    jacobian_norm_max, jacobian_norm_mean: over the images, of the spectral norm of d logits / d x
    in evaluation mode, exact for each image. The largest is a lower bound of the Lipschitz
    constant.

    samples: N. ValueError on no images.
    """
    norms = jacobian_norms(model, x, batch_size)
    largest, mean = torch.stack([norms.max(), norms.mean()]).tolist()
    return {
        "product_sigma": math.prod(float(row["sigma"]) for row in layers),
        "product_operator_norm": math.prod(float(row["operator_norm"]) for row in layers),
        "jacobian_norm_max": largest,
        "jacobian_norm_mean": mean,
        "samples": len(x),
    }


def jacobian_norms(model: nn.Module, x: Tensor, batch_size: int) -> Tensor:
    """(N,) float64: spectral norm of each image's Jacobian (classes, pixels) of the logits."""
    if len(x) == 0:
        raise ValueError("cannot measure Jacobians on 0 images")
    with unchanged(model), full_precision(x.device), torch.enable_grad():
        return torch.cat([_norms(model, batch) for batch in torch.split(x, min(batch_size, BATCH))])


def _norms(model: nn.Module, x: Tensor) -> Tensor:
    """One backward pass a class: a sum over the batch separates, as images are independent."""
    x = x.detach().requires_grad_()
    totals = model(x).sum(dim=0).unbind()
    last = len(totals) - 1
    rows = [torch.autograd.grad(total, x, retain_graph=i < last)[0].flatten(1) for i, total in enumerate(totals)]
    jacobian = torch.stack(rows, dim=1).double()
    if not bool(jacobian.isfinite().all()):
        return jacobian.new_full((len(x),), math.nan)
    gram = jacobian @ jacobian.mT if jacobian.shape[1] <= jacobian.shape[2] else jacobian.mT @ jacobian
    norms: Tensor = torch.linalg.eigvalsh(gram)[:, -1].clamp_min(0).sqrt()
    return norms
