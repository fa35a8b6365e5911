"""Every kind of layer as its matrix: against dense operators, and under each method that acts on
weights."""

import warnings
from collections.abc import Callable
from functools import partial

import pytest
import torch
from mixed import Mixed
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.testing import assert_close

from sns import method as methods
from sns.common.errors import ConfigError
from sns.linalg.conv_operator import Convolution
from sns.linalg.leading import LeadingVectors
from sns.linalg.weights import left_out, weight_parameters, weights_of
from sns.measure.spectrum import sigma_and_frobenius, singular_values
from sns.method.decay import DecayOptions
from sns.method.orthonormal import OrthonormalOptions
from sns.method.spectral import SpectralOptions
from sns.method.spectral_operator import SpectralOperator, SpectralOperatorOptions
from sns.method.unit_sigma import UnitSigmaOptions

PATCHES: dict[str, tuple[nn.Module, tuple[int, ...]]] = {  # one output place sees the whole input
    "linear": (nn.Linear(5, 3, bias=False), (5,)),
    "conv1d": (nn.Conv1d(4, 6, 3, bias=False), (4, 3)),
    "conv2d": (nn.Conv2d(3, 4, (2, 3), bias=False), (3, 2, 3)),
    "conv3d": (nn.Conv3d(2, 3, 2, bias=False), (2, 2, 2, 2)),
    "grouped": (nn.Conv2d(4, 6, 3, groups=2, bias=False), (4, 3, 3)),
    "depthwise": (nn.Conv1d(4, 4, 3, groups=4, bias=False), (4, 3)),
    "transposed1d": (nn.ConvTranspose1d(3, 5, 4, padding=3, bias=False), (3, 4)),
    "transposed2d": (nn.ConvTranspose2d(3, 5, 3, padding=2, bias=False), (3, 3, 3)),
    "transposed3d": (nn.ConvTranspose3d(2, 3, 2, padding=1, bias=False), (2, 2, 2, 2)),
    "transposed in groups": (nn.ConvTranspose2d(4, 6, 3, padding=2, groups=2, bias=False), (4, 3, 3)),
}


def dense(layer: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """The matrix of a layer without bias, column by column."""
    n = torch.Size(shape).numel()
    with torch.no_grad():
        return layer(torch.eye(n, dtype=torch.float64).view(n, *shape)).flatten(1).T


@pytest.mark.parametrize("name", PATCHES)
def test_the_matrix_is_the_layers_map_of_a_patch(name: str) -> None:
    layer, shape = PATCHES[name]
    expected = torch.linalg.svdvals(dense(layer.double(), shape))
    (weight,) = weights_of(layer)
    assert_close(torch.linalg.svdvals(weight.matrix()), expected)
    assert_close(singular_values(layer)["weight"], expected)
    blocks = torch.linalg.svdvals(weight.matrices())
    assert_close(blocks.max(), expected[0])  # the norm of a block-diagonal matrix
    assert_close(sigma_and_frobenius(layer)["sigma_max"], expected[0].item())
    assert torch.equal(weight.from_matrices(weight.matrices()), layer.weight)


LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "same": (nn.Conv2d(2, 3, 3, padding="same", bias=False), (2, 5, 6)),
    "valid": (nn.Conv2d(2, 3, 3, padding="valid", bias=False), (2, 5, 6)),
    "conv1d": (nn.Conv1d(2, 3, 5, stride=2, padding=2, dilation=2, bias=False), (2, 17)),
    "transposed": (nn.ConvTranspose2d(3, 2, (3, 4), stride=2, padding=1, output_padding=1, bias=False), (3, 5, 4)),
    "transposed in groups": (nn.ConvTranspose2d(4, 6, 3, groups=2, dilation=2, bias=False), (4, 5, 4)),
    "transposed1d": (nn.ConvTranspose1d(3, 2, 4, stride=3, padding=1, bias=False), (3, 9)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_the_norm_as_a_map_of_images_is_that_of_the_dense_operator(name: str) -> None:
    layer, shape = LAYERS[name]
    operator = Convolution.of(layer.double(), layer.weight, shape[1:])
    assert operator is not None
    assert operator.norm() == pytest.approx(torch.linalg.matrix_norm(dense(layer, shape), 2).item(), rel=1e-6)


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def expected(penalty: Callable[[Tensor], Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Value and gradient of 0.05 * sum of penalty(W) by automatic differentiation."""
    model = Mixed()
    total = 0.05 * torch.stack([penalty(matrix) for matrix in model.matrices()]).sum()
    total.backward()
    return total.detach(), gradients(model)


def regularized(options: object, steps: int = 1) -> tuple[Tensor, dict[str, Tensor]]:
    model = Mixed()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        method = methods.build(options, model, torch.Generator().manual_seed(1))
    for _ in range(steps):
        model.zero_grad()
        value = method.regularize()
    assert value is not None
    return value, gradients(model)


@pytest.mark.parametrize("stacked", [False, True])
def test_spectral_treats_every_kind_of_layer(stacked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sns.method.penalty.LeadingVectors", partial(LeadingVectors, stacked=stacked))
    actual = regularized(SpectralOptions(factor=0.1, n_iterations=2000))
    assert_close(actual, expected(lambda w: torch.linalg.matrix_norm(w, 2).square()), rtol=1e-6, atol=1e-8)


def test_decay_of_weights_treats_every_kind_of_layer() -> None:
    actual = regularized(DecayOptions(factor=0.1, scope="weights"))
    assert_close(actual, expected(lambda w: w.square().sum()))


def test_decay_of_all_parameters_needs_no_gradient_of_the_loss() -> None:
    _, found = regularized(DecayOptions(factor=0.1))
    model = Mixed()
    assert_close(found, {n: 0.1 * p.detach() for n, p in model.named_parameters() if p.requires_grad})


def test_the_vectors_of_every_kind_are_restored() -> None:
    with pytest.warns(UserWarning, match="leaves out"):
        first, second = (
            methods.build(SpectralOptions(), model, torch.Generator().manual_seed(seed))
            for seed, model in enumerate((Mixed(), Mixed()))
        )
    first.regularize()
    second.load_state_dict(first.state_dict())
    assert_close(second.state_dict(), first.state_dict())
    assert torch.equal(first.regularize(), second.regularize())


def test_the_operator_norm_is_penalised_where_there_is_one() -> None:
    """Transposed, 1-D, attention and linear: the gradient of the dense operators' norms."""

    class Images(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.ConvTranspose2d(2, 3, 3, stride=2, bias=False)
            self.row = nn.Conv1d(3, 2, 3, padding=1, bias=False)
            self.attention = nn.MultiheadAttention(2, 1, bias=False)
            self.double()

        def forward(self, x: Tensor) -> Tensor:
            tokens = self.row(self.up(x).flatten(2)).permute(2, 0, 1)
            return self.attention(tokens, tokens, tokens, need_weights=False)[0].mean(0)

    torch.manual_seed(0)
    model, x = Images(), torch.randn(2, 2, 3, 3, dtype=torch.float64)
    method = methods.build(SpectralOperatorOptions(factor=0.1, n_iterations=3000), model, torch.Generator())
    assert isinstance(method, SpectralOperator)
    method.backward(lambda inputs, share: {}, x, 1.0)  # which only measures the sizes of the inputs
    value = method.regularize()
    pieces = [torch.autograd.functional.jacobian(lambda z: model.up(z).flatten(), x[:1], create_graph=True).flatten(1)]
    row = torch.zeros(1, 3, 49, dtype=torch.float64)
    pieces.append(
        torch.autograd.functional.jacobian(lambda z: model.row(z).flatten(), row, create_graph=True).flatten(1)
    )
    pieces += [*model.attention.in_proj_weight.chunk(3), model.attention.out_proj.weight]
    total = 0.05 * torch.stack([torch.linalg.matrix_norm(w, 2).square() for w in pieces]).sum()
    wanted = torch.autograd.grad(total, list(model.parameters()))
    assert_close(value, total.detach(), rtol=1e-6, atol=1e-9)
    assert_close([p.grad for p in model.parameters()], list(wanted), rtol=1e-4, atol=1e-6)


def test_what_is_left_out_is_named_in_one_line() -> None:
    model = Mixed()
    assert left_out(model) == ["embedding.weight", "bilinear.weight"]
    with pytest.warns(UserWarning, match="leaves out") as caught:
        methods.build(SpectralOptions(), model, torch.Generator())
    (line,) = (str(warning.message) for warning in caught)
    assert line.startswith("method=spectral leaves out embedding.weight, bilinear.weight: ")
    with pytest.raises(ConfigError, match="method=spectral needs weight matrices to train, and this network has none"):
        methods.build(SpectralOptions(), nn.BatchNorm1d(3), torch.Generator())


def test_a_shared_weight_counts_once_and_a_parametrised_one_as_it_is_used() -> None:
    names = [weight.name for weight in weights_of(Mixed())]
    assert "tied.weight" in names
    assert not {"again.weight", "shared.0.weight"} & set(names)
    assert {"attention.in_proj_weight[q]", "lstm.weight_hh_l0[f]", "cell.weight_ih[z]"} <= set(names)
    layer = nn.Linear(3, 3)
    parametrize.register_parametrization(layer, "weight", nn.Softplus())
    assert torch.equal(weights_of(layer)[0].matrix(), layer.weight)
    assert weight_parameters(layer) == []


def smaller_side(matrix: Tensor) -> Tensor:
    """|W W^T - I|_F^2, or |W^T W - I|_F^2 for a matrix of more rows than columns."""
    matrix = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    return (matrix @ matrix.T - torch.eye(len(matrix), dtype=matrix.dtype)).square().sum()


def test_orthonormal_treats_every_kind_of_layer() -> None:
    actual = regularized(OrthonormalOptions(factor=0.05))
    assert_close(actual, expected(smaller_side))


def test_unit_sigma_treats_every_kind_of_layer() -> None:
    actual = regularized(UnitSigmaOptions(factor=0.1, n_iterations=2000))
    assert_close(actual, expected(lambda w: (torch.linalg.matrix_norm(w, 2) - 1).square()), rtol=1e-6, atol=1e-8)
