"""Singular values of the weight matrices (sections 3.2 and 4.4, Figure 4), in float64."""

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn

from sns.linalg.conv_operator import circular_operator_norm, operator_norm
from sns.model.sizes import input_sizes


def weight_matrices(model: nn.Module) -> dict[str, Tensor]:
    """Parameter name to matrix of every Conv2d and Linear weight, in the order of the modules.

    A kernel (out, in, kh, kw) is reshaped to (out, in * kh * kw) as in section 3.2. Detached views.
    """
    return {name: module.weight.detach().flatten(1) for name, module in _weighted(model).items()}


def _weighted(model: nn.Module) -> dict[str, nn.Conv2d | nn.Linear]:
    return {
        f"{name}.weight" if name else "weight": module
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }


def sigma_and_frobenius(model: nn.Module) -> dict[str, float]:
    """sigma_max, sigma_mean and frobenius over all weight matrices.

    sigma_mean is the geometric mean of the largest singular values. Each is the square root of the
    largest eigenvalue of the smaller Gram matrix: as exact as an SVD for this value, and several
    times faster; Grams of equal size are batched. One transfer to the host. NaN throughout if a
    weight is not finite. ValueError for a model without weight matrices.
    """
    matrices = list(weight_matrices(model).values())
    if not matrices:
        raise ValueError("the model has no Conv2d or Linear weights")
    sigmas = torch.stack(_largest(matrices))
    square = torch.stack([matrix.square().sum(dtype=torch.float64) for matrix in matrices]).sum()
    values = torch.stack([sigmas.max(), sigmas.log().mean().exp(), square.sqrt()])
    names = ("sigma_max", "sigma_mean", "frobenius")
    return dict(zip(names, torch.where(square.isfinite(), values, torch.nan).tolist(), strict=True))


def _largest(matrices: list[Tensor]) -> list[Tensor]:
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


def singular_values(model: nn.Module) -> dict[str, Tensor]:
    """Every singular value of every weight matrix, descending, float64, on the host.

    On any device the host computes them: a GPU takes longer for a float64 SVD than a CPU core.
    """
    return {n: torch.linalg.svdvals(matrix.to("cpu", torch.float64)) for n, matrix in weight_matrices(model).items()}


def layer_table(model: nn.Module, input_shape: tuple[int, ...], spectra: dict[str, Tensor]) -> list[dict[str, Any]]:
    """One row a weight matrix, with the columns of layers.csv.

    `input_shape`: (C, H, W) of the images. `spectra`: the model's `singular_values`. sigma and
    frobenius are those of the reshaped matrix. operator_norm is that of the layer at its input size
    in this model, with its zero padding and stride. operator_norm_circular is for stride 1 and
    circular padding; None for linear layers, groups and dilation. ValueError for a convolution that
    is not zero-padded by whole numbers.
    """
    sizes = input_sizes(model, input_shape)
    return [
        _row(name, module, sizes.get(name.removesuffix(".weight")), spectra[name][0].item())
        for name, module in _weighted(model).items()
    ]


def _row(name: str, module: nn.Conv2d | nn.Linear, size: tuple[int, int] | None, sigma: float) -> dict[str, Any]:
    matrix = module.weight.detach().double().flatten(1)
    row: dict[str, Any] = {
        "layer": name,
        "kind": "linear",
        "rows": matrix.shape[0],
        "columns": matrix.shape[1],
        "sigma": sigma,
        "frobenius": torch.linalg.matrix_norm(matrix).item(),
        "operator_norm": sigma,
        "operator_norm_circular": None,
    }
    if isinstance(module, nn.Linear):
        return row
    if size is None:
        raise ValueError(f"{name} takes no part in the model's forward pass, so its input size is not known")
    return row | {"kind": "conv"} | _conv_norms(name, module, size)


def _conv_norms(name: str, module: nn.Conv2d, size: tuple[int, int]) -> dict[str, float | None]:
    if module.padding_mode != "zeros" or isinstance(module.padding, str):
        raise ValueError(
            f"{name} has padding {module.padding!r} of mode {module.padding_mode}; only zeros are supported"
        )
    geometry = (size, _pair(module.stride), _pair(module.padding))
    extra: dict[str, Any] = {"dilation": _pair(module.dilation), "groups": module.groups}
    plain = module.groups == 1 and _pair(module.dilation) == (1, 1)
    return {
        "operator_norm": operator_norm(module.weight, *geometry, **extra),
        "operator_norm_circular": circular_operator_norm(module.weight, size) if plain else None,
    }


def _pair(value: tuple[int, ...]) -> tuple[int, int]:
    return value[0], value[1]


def spectra_table(spectra: dict[str, Tensor]) -> list[dict[str, Any]]:
    """The rows of spectra.csv, from the model's `singular_values`."""
    return [
        {"layer": name, "index": index, "singular_value": value}
        for name, values in spectra.items()
        for index, value in enumerate(values.tolist())
    ]
