"""Singular values of the weight matrices (sections 3.2 and 4.4, Figure 4), in float64."""

import math
import warnings
from collections import defaultdict
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from sns.common.errors import ConfigError
from sns.linalg.circular import circular_operator_norm
from sns.linalg.conv_operator import Convolution
from sns.linalg.leading import known_operator
from sns.linalg.weights import Weight, weights_of
from sns.model.sizes import input_sizes

T = TypeVar("T")


def weight_matrices(model: nn.Module, **which: bool) -> dict[str, Tensor]:
    """Name to matrix of every weight, as in `sns.linalg.weights`, detached."""
    return {weight.name: weight.matrix() for weight in weights_of(model, **which)}


def sigma_and_frobenius(model: nn.Module) -> dict[str, float]:
    """sigma_max, sigma_mean and frobenius over all weight matrices.

    sigma_mean is the geometric mean of the largest singular values. Each is the square root of the
    largest eigenvalue of the smaller Gram matrix: as exact as an SVD for this value, and several
    times faster; Grams of equal size are batched. One transfer to the host. NaN throughout if a
    weight is not finite. ValueError for a model without weight matrices.
    """
    matrices = list(weight_matrices(model).values())
    if not matrices:
        raise ValueError("the model has no weight matrices")
    sigmas = torch.stack(largest_singular_values(matrices))
    square = torch.stack([matrix.square().sum(dtype=torch.float64) for matrix in matrices]).sum()
    values = torch.stack([sigmas.max(), sigmas.log().mean().exp(), square.sqrt()])
    names = ("sigma_max", "sigma_mean", "frobenius")
    return dict(zip(names, torch.where(square.isfinite(), values, torch.nan).tolist(), strict=True))


def largest_singular_values(matrices: list[Tensor]) -> list[Tensor]:
    """Largest singular value of each matrix, float64; entries that are not finite count as 0."""
    by_size: dict[int, list[int]] = defaultdict(list)
    grams = [_smaller_gram(matrix.double().nan_to_num(0.0, 0.0, 0.0)) for matrix in matrices]
    for index, gram in enumerate(grams):
        by_size[len(gram)].append(index)
    sigmas = list(grams)
    for group in by_size.values():
        top = torch.linalg.eigvalsh(torch.stack([grams[index] for index in group]))[:, -1].clamp_min(0).sqrt()
        for index, sigma in zip(group, top.unbind(), strict=True):
            sigmas[index] = sigma
    return sigmas


def _smaller_gram(matrix: Tensor) -> Tensor:
    return matrix @ matrix.mT if matrix.shape[0] <= matrix.shape[1] else matrix.mT @ matrix


def singular_values(model: nn.Module, **which: bool) -> dict[str, Tensor]:
    """Every singular value of every weight matrix, descending, float64, on the host.

    On any device the host computes them: a GPU takes longer for a float64 SVD than a CPU core.
    """
    matrices = weight_matrices(model, **which)
    return {name: torch.linalg.svdvals(matrix.to("cpu", torch.float64)) for name, matrix in matrices.items()}


def spectrum(module: nn.Module, **which: bool) -> Tensor | dict[str, Tensor]:
    """`singular_values` of one layer, or of every weight matrix of a model by its name.

    `which`: embeddings and heads, as in `weights_of`. ConfigError without weight matrices.
    """
    return _by_name(module, singular_values(module, **which))


def sigma(
    module: nn.Module, *, operator: bool = False, input_shape: tuple[int, ...] | None = None, **which: bool
) -> float | dict[str, float]:
    """The spectral norm of one layer, or of every weight matrix of a model by its name.

    Exact, in float64; NaN for a weight that is not finite. `operator`: each layer's norm as a map
    of images (`Convolution.norm`) instead, where the module's inputs are `input_shape`, (C, H, W).
    `which`: embeddings and heads, as in `weights_of`. ConfigError without weight matrices and for
    a layer that is no such map.
    """
    weights = weights_of(module, **which)
    if not operator:
        return _by_name(module, {weight.name: _norm(weight.matrices()) for weight in weights})
    if input_shape is None:
        raise ConfigError("sigma(operator=True) needs input_shape=(C, H, W), the module's inputs")
    sizes = input_sizes(module, input_shape)
    return _by_name(module, {weight.name: known_operator("sigma", weight, sizes).norm() for weight in weights})


def _norm(blocks: Tensor) -> float:
    """The largest singular value of all blocks (blocks, m, n), on the host: not all devices have
    float64."""
    exact = blocks.to("cpu", torch.float64)
    return torch.stack(largest_singular_values(list(exact))).max().item() if bool(exact.isfinite().all()) else math.nan


def _by_name(module: nn.Module, values: dict[str, T]) -> T | dict[str, T]:
    """The one value of a layer; all of a model, or of a layer with several matrices."""
    if not values:
        raise ConfigError(f"{type(module).__name__} has no weight matrices; for embeddings set embeddings=True")
    return values["weight"] if list(values) == ["weight"] else values


def layer_table(model: nn.Module, input_shape: tuple[int, ...], spectra: dict[str, Tensor]) -> list[dict[str, Any]]:
    """One row a weight matrix, with the columns of layers.csv.

    `input_shape`: (C, H, W) of the images. `spectra`: the model's `singular_values`. sigma and
    frobenius are those of the matrix. operator_norm is that of the layer at its input size in this
    model, with its zero padding and stride; NaN, with a warning, for a convolution in 3 dimensions,
    with another padding, or that the forward pass does not use. operator_norm_circular is for
    stride 1 and circular padding; None for all but plain Conv2d layers.
    """
    sizes = input_sizes(model, input_shape)
    rows = []
    for weight in weights_of(model):
        matrix, sigma = weight.matrix(), spectra[weight.name][0].item()
        convolution = isinstance(weight.module, _ConvNd)
        row: dict[str, Any] = {
            "layer": weight.name,
            "kind": "conv" if convolution else "linear",
            "rows": matrix.shape[0],
            "columns": matrix.shape[1],
            "sigma": sigma,
            "frobenius": torch.linalg.matrix_norm(matrix.double()).item(),
            "operator_norm": sigma,
            "operator_norm_circular": None,
        }
        rows.append(row | (_conv_norms(weight, sizes.get(weight.name.rpartition(".")[0])) if convolution else {}))
    return rows


def _conv_norms(weight: Weight, size: tuple[int, ...] | None) -> dict[str, float | None]:
    layer, tensor = weight.module, weight.tensor.detach()
    operator = None if size is None else Convolution.of(layer, tensor, size)
    if operator is None:
        warnings.warn(
            f"the norm of {weight.name} as a map of images is left out: no known input or padding", stacklevel=3
        )
        return {"operator_norm": math.nan}
    plain = isinstance(layer, nn.Conv2d) and operator.groups == 1 and operator.dilation == (1, 1)
    circular = circular_operator_norm(tensor, operator.input_size) if plain else None
    return {"operator_norm": operator.norm(), "operator_norm_circular": circular}


def spectra_table(spectra: dict[str, Tensor]) -> list[dict[str, Any]]:
    """The rows of spectra.csv, from the model's `singular_values`."""
    return [
        {"layer": name, "index": index, "singular_value": value}
        for name, values in spectra.items()
        for index, value in enumerate(values.tolist())
    ]
