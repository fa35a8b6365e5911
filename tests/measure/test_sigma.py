"""`sigma` and `spectrum`, which other projects import."""

import math

import pytest
import torch
from linalg.test_weights import Mixed
from torch import Tensor, nn
from torch.testing import assert_close

from sns import sigma, spectrum
from sns.common.errors import ConfigError


def matrix_norm(matrix: Tensor) -> float:
    return torch.linalg.matrix_norm(matrix.detach().double(), 2).item()


def test_sigma_and_spectrum_of_a_layer_and_of_a_model() -> None:
    """Exact, of every kind of layer: of the matrices written out by hand."""
    model = Mixed()
    norms, spectra = sigma(model), spectrum(model)
    assert isinstance(norms, dict)
    assert isinstance(spectra, dict)
    wanted = [torch.linalg.svdvals(w.detach()) for w in [*model.matrices(), model.frozen.weight]]
    assert_close(list(spectra.values()), wanted)
    assert_close(list(norms.values()), [values[0].item() for values in wanted], rtol=1e-12, atol=0)
    layer = nn.Conv2d(4, 6, 3, groups=2).double()
    matrix = torch.block_diag(*layer.weight.flatten(1).chunk(2))
    assert_close(spectrum(layer), torch.linalg.svdvals(matrix.detach()))
    assert sigma(layer) == pytest.approx(matrix_norm(matrix), rel=1e-12)
    table = nn.Embedding(5, 3)
    assert sigma(table, embeddings=True) == pytest.approx(matrix_norm(table.weight), rel=1e-6)
    attention = nn.MultiheadAttention(4, 2).bfloat16()
    values = [matrix_norm(part) for part in (*attention.in_proj_weight.chunk(6), attention.out_proj.weight)]
    heads = sigma(attention, heads=True)
    assert isinstance(heads, dict)
    assert list(heads.values()) == pytest.approx(values, rel=1e-6)


def test_sigma_of_layers_as_maps_of_images() -> None:
    """pytorch 13505: not that of the reshaped kernel."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2)).double()
    norms = sigma(model, operator=True, input_shape=(2, 4, 4))
    basis = torch.eye(32, dtype=torch.float64).view(32, 2, 4, 4)
    dense = nn.functional.conv2d(basis, model[0].weight, padding=1).flatten(1)
    assert isinstance(norms, dict)
    assert norms["0.weight"] == pytest.approx(matrix_norm(dense), rel=1e-6)
    assert norms["3.weight"] == pytest.approx(sigma(model[3]), rel=1e-12)
    assert sigma(model[0], operator=True, input_shape=(2, 4, 4)) == norms["0.weight"]
    assert norms["0.weight"] > 1.2 * sigma(model[0])


def test_sigma_states_what_it_cannot_do() -> None:
    layer = nn.Linear(2, 2)
    with pytest.raises(ConfigError, match=r"needs input_shape=\(C, H, W\)"):
        sigma(layer, operator=True)
    with pytest.raises(ConfigError, match="BatchNorm1d has no weight matrices"):
        spectrum(nn.BatchNorm1d(3))
    with pytest.raises(ConfigError, match="sigma cannot treat weight: convolutions must be in 1 or 2 dimensions"):
        sigma(nn.Conv3d(2, 2, 2), operator=True, input_shape=(2, 4, 4, 4))
    with torch.no_grad():
        layer.weight[0, 0] = float("inf")
    assert math.isnan(sigma(layer))
