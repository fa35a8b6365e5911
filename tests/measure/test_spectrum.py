"""Singular values against torch's SVD, and layer norms at the sizes that the layers meet."""

import math
from collections.abc import Callable

import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.nn import functional as F
from torch.testing import assert_close

from sns.config.schema import Config
from sns.measure.spectrum import layer_table, sigma_and_frobenius, singular_values, spectra_table, weight_matrices
from sns.model import build
from sns.model.densenet import DenseNetConfig
from sns.model.vgg import VGGConfig
from sns.record.schema import LAYERS, LAYERS_CSV, SPECTRA, SPECTRA_CSV
from sns.train.run import run

NAMES = ["stem.0.weight", "branch.weight", "head.weight"]


def test_matrices_are_the_reshaped_kernels_of_section_3_2(model: nn.Module) -> None:
    matrices = weight_matrices(model)
    assert list(matrices) == NAMES  # neither biases nor batch norm
    assert [tuple(matrix.shape) for matrix in matrices.values()] == [(4, 18), (2, 100), (3, 24)]
    assert not any(matrix.requires_grad for matrix in matrices.values())
    kernel = model.stem[0].weight
    assert matrices["stem.0.weight"][2, 9 + 3 + 1] == kernel[2, 1, 1, 1]
    assert list(weight_matrices(nn.Linear(3, 2))) == ["weight"]


def test_sigma_and_frobenius_are_those_of_the_svd(model: nn.Module) -> None:
    spectra = [torch.linalg.svdvals(matrix) for matrix in weight_matrices(model).values()]
    sigmas = torch.stack([values[0] for values in spectra])
    result = sigma_and_frobenius(model)
    assert_close(result["sigma_max"], sigmas.max().item(), rtol=1e-13, atol=0)
    assert_close(result["sigma_mean"], sigmas.prod().item() ** (1 / 3), rtol=1e-13, atol=0)
    assert_close(result["frobenius"], torch.cat(spectra).norm().item(), rtol=1e-13, atol=0)


@pytest.mark.parametrize(
    "options",
    [DenseNetConfig(depth=10, growth=4), VGGConfig(widths=[[8, 8], [8]], dropout=[[0.0, 0.0], [0.0]], hidden=9)],
)
def test_float32_networks_with_matrices_of_equal_and_unequal_size(options: object) -> None:
    model = build(options, 3, 8, 5, None, torch.Generator().manual_seed(0))
    matrices = weight_matrices(model)
    sigmas = torch.stack([torch.linalg.svdvals(matrix.double())[0] for matrix in matrices.values()])
    result = sigma_and_frobenius(model)
    assert_close(result["sigma_max"], sigmas.max().item(), rtol=1e-13, atol=0)
    assert_close(result["sigma_mean"], sigmas.log().mean().exp().item(), rtol=1e-13, atol=0)
    assert set(matrices) == {name for name, p in model.named_parameters() if p.dim() > 1}


def test_tall_matrices() -> None:
    model = nn.Sequential(nn.Linear(5, 40), nn.Linear(40, 5))
    sigmas = [torch.linalg.svdvals(layer.weight.detach().double())[0].item() for layer in model]
    assert_close(sigma_and_frobenius(model)["sigma_max"], max(sigmas), rtol=1e-13, atol=0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_diverged_weights_give_nan_and_no_error(value: float, model: nn.Module) -> None:
    with torch.no_grad():
        model.branch.weight[0, 0, 0, 0] = value
    assert all(math.isnan(number) for number in sigma_and_frobenius(model).values())


def test_dead_weights_give_zero(model: nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert sigma_and_frobenius(model) == {"sigma_max": 0.0, "sigma_mean": 0.0, "frobenius": 0.0}


def test_model_without_matrices_is_refused() -> None:
    with pytest.raises(ValueError, match="no weight matrices"):
        sigma_and_frobenius(nn.Sequential(nn.ReLU()))


def dense_norm(conv: nn.Conv2d, size: tuple[int, int]) -> float:
    n = conv.in_channels * size[0] * size[1]
    identity = torch.eye(n, dtype=torch.float64).view(n, conv.in_channels, *size)
    columns = F.conv2d(identity, conv.weight.detach(), stride=conv.stride, padding=conv.padding).flatten(1)
    return torch.linalg.matrix_norm(columns, 2).item()


def test_layer_rows_fit_the_schema_and_each_layers_own_input_size(model: nn.Module) -> None:
    rows = {row["layer"]: row for row in layer_table(model, (2, 8, 8), singular_values(model))}
    assert list(rows) == NAMES
    assert all(tuple(row) == LAYERS for row in rows.values())
    assert [row["kind"] for row in rows.values()] == ["conv", "conv", "linear"]
    assert [(row["rows"], row["columns"]) for row in rows.values()] == [(4, 18), (2, 100), (3, 24)]
    for name, matrix in weight_matrices(model).items():
        assert_close(rows[name]["sigma"], torch.linalg.svdvals(matrix)[0].item(), rtol=1e-13, atol=0)
        assert_close(rows[name]["frobenius"], matrix.norm().item(), rtol=1e-13, atol=0)
    for name, conv, size in (("stem.0.weight", model.stem[0], (8, 8)), ("branch.weight", model.branch, (4, 4))):
        assert_close(rows[name]["operator_norm"], dense_norm(conv, size), rtol=1e-6, atol=0)
        assert abs(rows[name]["operator_norm"] / rows[name]["sigma"] - 1) > 0.05  # erratum 4
        assert rows[name]["operator_norm_circular"] > 0
    assert rows["head.weight"]["operator_norm"] == rows["head.weight"]["sigma"]
    assert rows["head.weight"]["operator_norm_circular"] is None


def test_circular_norm_takes_the_layers_input_size() -> None:
    """A kernel of alternating signs resonates on a 4 x 4 torus, but not on 3 x 3."""
    signs = torch.tensor([[1.0, -1.0, 1.0], [-1.0, 1.0, -1.0], [1.0, -1.0, 1.0]])
    model = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, bias=False))
    model[0].weight.data = signs.view(1, 1, 3, 3)
    assert_close(layer_table(model, (1, 4, 4), singular_values(model))[0]["operator_norm_circular"], 9.0)
    assert layer_table(model, (1, 3, 3), singular_values(model))[0]["operator_norm_circular"] < 8.9


UNKNOWN = [
    nn.Conv2d(1, 2, 3, padding_mode="circular", padding=1),
    nn.Conv2d(1, 2, 4, padding="same"),  # one row more below than above
]


@pytest.mark.parametrize("layer", UNKNOWN)
def test_a_norm_that_is_not_known_is_nan_and_a_warning_after_hours_of_training(layer: nn.Module) -> None:
    model = nn.Sequential(layer)
    with pytest.warns(UserWarning, match=r"the norm of 0\.weight as a map of images is left out"):
        (row,) = layer_table(model, (1, 4, 4), singular_values(model))
    assert math.isnan(row["operator_norm"])
    assert row["sigma"] > 0


def test_unused_convolution_is_named(model: nn.Module) -> None:
    model.spare = nn.Conv2d(1, 1, 1).double()
    with pytest.warns(UserWarning, match=r"the norm of spare\.weight"):
        assert len(layer_table(model, (2, 8, 8), singular_values(model))) == 4


def test_spectra_list_every_singular_value_descending(model: nn.Module) -> None:
    rows = spectra_table(singular_values(model))
    assert all(tuple(row) == SPECTRA for row in rows)
    for name, matrix in weight_matrices(model).items():
        own = [row for row in rows if row["layer"] == name]
        assert [row["index"] for row in own] == list(range(min(matrix.shape)))
        values: Tensor = torch.tensor([row["singular_value"] for row in own], dtype=torch.float64)
        assert_close(values, torch.linalg.svd(matrix, full_matrices=False).S, rtol=1e-12, atol=0)


def test_the_host_computes_the_singular_values_of_any_device() -> None:
    """A GPU is slower than a CPU core at float64 SVDs."""
    with FakeTensorMode(), torch.device("cuda:0"):
        values = singular_values(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3)))
    found = {name: (value.device.type, len(value)) for name, value in values.items()}
    assert found == {"0.weight": ("cpu", 2), "2.weight": ("cpu", 3)}


def test_a_run_decomposes_each_matrix_once(tiny: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> None:
    calls, svdvals = [], torch.linalg.svdvals
    monkeypatch.setattr(torch.linalg, "svdvals", lambda matrix: calls.append(matrix.shape) or svdvals(matrix))
    config = tiny("train.epochs=0.2", "measure.hessian=false")
    run(config)
    layers = pd.read_csv(config.directory / LAYERS_CSV)
    shapes = list(zip(layers["rows"], layers["columns"], strict=True))
    assert [tuple(shape) for shape in calls if tuple(shape) in shapes] == shapes
    spectra = pd.read_csv(config.directory / SPECTRA_CSV).groupby("layer", sort=False)["singular_value"].first()
    assert list(spectra) == list(layers["sigma"])
