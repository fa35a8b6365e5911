"""The classes of sns.drop_in in a loop that is not ours. docs/drop_in.md names these tests."""

import copy
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from stand_in import StandIn
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.testing import assert_close

from sns import OrthonormalPenalty, SpectralNormPenalty, drop_in, sigma
from sns.common.errors import ConfigError
from sns.method.penalty import SigmaPenalty, WeightPenalty

PENALTIES = [c for c in vars(drop_in).values() if isinstance(c, type) and issubclass(c, WeightPenalty)]
Forms = Callable[[WeightPenalty], Tensor]


class Tied(nn.Module):
    """An embedding whose table is also the last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.inner, self.out = nn.Linear(4, 4), nn.Linear(4, 7, bias=False)
        self.out.weight = self.embedding.weight


Layer = tuple[Callable[[], nn.Module], Callable[[Any], list[Tensor]], dict[str, bool]]
LAYERS: dict[str, Layer] = {  # a layer, its matrices written out by hand, options
    "linear": (lambda: nn.Linear(5, 3), lambda m: [m.weight], {}),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3), lambda m: [m.weight.flatten(1)], {}),
    "conv2d": (lambda: nn.Conv2d(3, 4, (2, 3)), lambda m: [m.weight.flatten(1)], {}),
    "conv3d": (lambda: nn.Conv3d(2, 3, 2), lambda m: [m.weight.flatten(1)], {}),
    "transposed": (lambda: nn.ConvTranspose2d(3, 5, 3), lambda m: [m.weight.transpose(0, 1).flatten(1)], {}),
    "grouped": (lambda: nn.Conv2d(4, 6, 3, groups=2), lambda m: [torch.block_diag(*m.weight.flatten(1).chunk(2))], {}),
    "attention": (lambda: nn.MultiheadAttention(4, 2), lambda m: [*m.in_proj_weight.chunk(3), m.out_proj.weight], {}),
    "attention by heads": (
        lambda: nn.MultiheadAttention(4, 2),
        lambda m: [*m.in_proj_weight.chunk(6), m.out_proj.weight],
        {"heads": True},
    ),
    "embedding": (lambda: nn.Embedding(5, 4), lambda m: [m.weight], {"embeddings": True}),
    "tied": (Tied, lambda m: [m.embedding.weight, m.inner.weight], {"embeddings": True}),
    "weight_norm": (lambda: parametrizations.weight_norm(nn.Linear(5, 3)), lambda m: [m.weight], {}),
    "orthogonal": (lambda: parametrizations.orthogonal(nn.Linear(4, 4).double()), lambda m: [m.weight], {}),
}


def network(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 3, groups=2), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*layers, parametrizations.weight_norm(nn.Linear(6 * 4, 5)), nn.Linear(5, 3)).to(dtype)


def images(count: int = 4, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(count, 2, 4, 4, generator=torch.Generator().manual_seed(1), dtype=dtype)


def loss_of(model: nn.Module, x: Tensor) -> Tensor:
    value: Tensor = model(x).square().mean()
    return value


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def added(penalty: WeightPenalty) -> Tensor:
    """The gradient by `add_gradient_`."""
    return penalty.add_gradient_()


def differentiated(penalty: WeightPenalty) -> Tensor:
    """The gradient by autograd."""
    value = penalty()
    value.backward()
    return value.detach()


BOTH = pytest.mark.parametrize("form", [added, differentiated])
EACH = pytest.mark.parametrize("make", PENALTIES)
OPTIONS = [partial(SpectralNormPenalty, fresh=True), partial(SpectralNormPenalty, target_sigma=1.0)]
ALL = pytest.mark.parametrize("make", [*PENALTIES, *OPTIONS])
OPERATOR = {"operator": True, "input_shape": (2, 4, 4)}
NORMS = pytest.mark.parametrize("options", [{}, OPERATOR], ids=["matrix", "operator"])


@BOTH
@pytest.mark.parametrize("name", LAYERS)
def test_every_kind_of_layer_against_its_svd(name: str, form: Forms) -> None:
    make, matrices, which = LAYERS[name]
    torch.manual_seed(0)
    layer = make().double()
    expected = 0.1 / 2 * torch.stack([torch.linalg.matrix_norm(w, 2).square() for w in matrices(layer)]).sum()
    expected.backward()
    wanted = gradients(layer)
    layer.zero_grad()
    value = form(SpectralNormPenalty(layer, 0.1, n_iterations=1000, **which))
    assert_close((value, gradients(layer)), (expected.detach(), wanted), rtol=1e-7, atol=1e-9)


@NORMS
@ALL
def test_both_forms_give_one_gradient(make: Any, options: dict[str, Any]) -> None:
    if options and make is OrthonormalPenalty:
        pytest.skip("has no operator=True")
    results = []
    for form in (added, differentiated):
        model = network()
        penalty = make(model, 0.1, **options)
        results.append(([form(penalty) for _ in range(3)], gradients(model)))
    assert_close(*results, rtol=1e-12, atol=1e-14)


@ALL
@pytest.mark.parametrize("pickled", [False, True])
def test_a_copy_goes_on_alike_and_apart(make: Any, pickled: bool) -> None:
    model = network()[:5] if pickled else network()  # torch refuses to pickle parametrised modules
    penalty = make(model, 0.1)
    penalty.add_gradient_()
    if isinstance(penalty, SigmaPenalty):
        penalty.stream = lambda: None  # as a device's: cannot be pickled
    both = (model, penalty)
    twin, other = pickle.loads(pickle.dumps(both)) if pickled else copy.deepcopy(both)
    twin.zero_grad()
    model.zero_grad()
    assert torch.equal(penalty.add_gradient_(), other.add_gradient_())
    assert_close(gradients(twin), gradients(model), rtol=0, atol=0)


@ALL
def test_the_state_continues_in_another_process(make: Any) -> None:
    first, second = make(network(), 0.1), make(network(), 0.1)
    for _ in range(3):
        first()
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(), second())
    state = first.state_dict()
    with pytest.raises(ValueError, match=r"is of other options than this|no place for"):
        second.load_state_dict(state | {"w": torch.zeros(1)})
    if state:
        with pytest.raises(ValueError, match=r"saved vectors are not those of this model, which has 4 weight"):
            second.load_state_dict({name: tensor for name, tensor in state.items() if name != "v1"})


@NORMS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("cast", [False, True])
def test_the_result_is_fp32_under_autocast_and_for_16_bit_models(
    dtype: torch.dtype, cast: bool, options: dict[str, Any]
) -> None:
    model = network(dtype)
    exact = network(dtype).double()  # the same rounded weights
    norms = sigma(exact, **options)
    assert isinstance(norms, dict)
    penalty = SpectralNormPenalty(model, 0.1, n_iterations=300, **options)
    with torch.autocast("cpu", torch.bfloat16, enabled=cast):
        value, returned = penalty(), penalty.add_gradient_()
    wanted = torch.tensor(0.05 * sum(norm**2 for norm in norms.values()))
    assert_close([value.detach(), returned], [wanted, wanted], rtol=3e-3 if dtype != torch.float32 else 1e-5, atol=0)
    assert value.dtype == returned.dtype == torch.float32
    assert {p.grad.dtype for p in model.parameters() if p.grad is not None} == {dtype}


@ALL
def test_two_forward_passes_before_one_backward(make: Any) -> None:
    """pytorch 66363: torch's spectral_norm fails here, as a pass overwrites what backward needs."""
    results = []
    for together in (True, False):
        model = network()
        penalty = make(model, 0.1)
        losses = []
        for x in images().chunk(2):
            losses.append(loss_of(model, x) + penalty())
            if not together:
                losses[-1].backward()
        if together:
            torch.stack(losses).sum().backward()
        results.append(gradients(model))
    assert_close(*results, rtol=1e-12, atol=1e-14)


@NORMS
def test_evaluation_mode_leaves_the_vectors_alone(options: dict[str, Any]) -> None:
    model = network()
    penalty = SpectralNormPenalty(model, **options)
    before = penalty.state_dict()
    model.eval()
    penalty()
    penalty.add_gradient_()
    assert_close(penalty.state_dict(), before, rtol=0, atol=0)
    model.train()
    penalty()
    assert not torch.equal(penalty.state_dict()["v0"], before["v0"])


@NORMS
def test_the_model_may_move_after_the_penalty_is_made(options: dict[str, Any], stand_in: type[StandIn]) -> None:
    """To another device (where matrices are stacked), layout and type, and back."""
    model, still = network(), network()
    penalty, other = (SpectralNormPenalty(m, 0.1, n_iterations=3, **options) for m in (model, still))
    for move in (
        {"device": stand_in.at(1)},
        {"memory_format": torch.channels_last},
        {"dtype": torch.float32},
        {"device": torch.device("cpu"), "memory_format": torch.contiguous_format, "dtype": torch.float64},
    ):
        model.to(**move)
        value = penalty.add_gradient_()
        weight = model[0].weight
        assert (value.device, value.dtype) == (weight.device, weight.dtype)
        assert_close(value.to("cpu", torch.float64), other.add_gradient_(), rtol=1e-5, atol=0)
    model.to("meta")
    penalty.vectors.follow()
    assert {v.device.type for v in penalty.vectors.v} == {"meta"}


def trained(step: Callable[[nn.Module, WeightPenalty, Any, Tensor], None], make: Any = SpectralNormPenalty) -> Any:
    """The parameters after four updates with `step`, in float32."""
    model = network(torch.float32)
    penalty, optimizer = make(model, 0.1), torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    for _ in range(4):
        optimizer.zero_grad()
        step(model, penalty, optimizer, images(dtype=torch.float32))
    return {name: p.detach() for name, p in model.named_parameters()}


def plain(model: nn.Module, penalty: WeightPenalty, optimizer: Any, x: Tensor) -> None:
    (loss_of(model, x) + penalty()).backward()
    optimizer.step()


@EACH
@pytest.mark.parametrize("outside", [False, True])
def test_a_compiled_step(make: Any, outside: bool) -> None:
    """With `loss + penalty()` as one graph, and with `add_gradient_` outside of it."""
    torch._dynamo.reset()

    def loss(model: nn.Module, penalty: WeightPenalty, x: Tensor) -> Tensor:
        return loss_of(model, x) if outside else loss_of(model, x) + penalty()

    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)

    def step(model: nn.Module, penalty: WeightPenalty, optimizer: Any, x: Tensor) -> None:
        compiled(model, penalty, x).backward()
        if outside:
            penalty.add_gradient_()
        optimizer.step()

    assert_close(trained(step, make), trained(plain, make), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("outside", [False, True])
def test_a_gradient_scaler(outside: bool) -> None:
    """`add_gradient_` belongs between unscale_ and step; the loss form needs no care."""
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)

    def step(model: nn.Module, penalty: WeightPenalty, optimizer: Any, x: Tensor) -> None:
        loss = loss_of(model, x)
        scaler.scale(loss if outside else loss + penalty()).backward()
        if outside:
            scaler.unscale_(optimizer)
            penalty.add_gradient_()
        scaler.step(optimizer)
        scaler.update()

    assert_close(trained(step), trained(plain), rtol=1e-5, atol=1e-6)


def test_accumulated_gradients_take_the_penalty_once() -> None:
    def step(model: nn.Module, penalty: WeightPenalty, optimizer: Any, x: Tensor) -> None:
        for part in x.chunk(2):
            (loss_of(model, part) / 2).backward()
        penalty.add_gradient_()
        optimizer.step()

    assert_close(trained(step), trained(plain), rtol=1e-5, atol=1e-6)


@BOTH
@EACH
def test_frozen_weights_stay(make: Any, form: Forms) -> None:
    """Whether they are frozen before or after the penalty is made."""
    model = network()
    model[2].weight.requires_grad_(False)
    penalty = make(model, 0.1)
    model[0].weight.requires_grad_(False)
    for layer in (model[0], model[6]):
        layer.weight.grad = torch.zeros_like(layer.weight)
    form(penalty)
    assert model[2].weight.grad is None
    assert not model[0].weight.grad.any()
    assert model[6].weight.grad.any()


def test_a_layer_that_comes_later_needs_a_new_penalty() -> None:
    """As with an optimizer. A new weight in the same layer needs none."""
    model = network()
    penalty = SpectralNormPenalty(model)
    model[0].weight = nn.Parameter(model[0].weight.detach() * 2)
    model[6] = nn.Linear(5, 9).double()
    penalty.add_gradient_()
    assert model[0].weight.grad is not None
    assert model[6].weight.grad is None
    SpectralNormPenalty(model).add_gradient_()
    assert model[6].weight.grad is not None


def test_small_weights_are_not_underestimated() -> None:
    """gloro 8: an epsilon that is added to a norm outweighs small weights."""
    layer = nn.Linear(5, 3).double()
    with torch.no_grad():
        layer.weight *= 1e-9
    value = SpectralNormPenalty(layer, 2.0, n_iterations=300)()
    assert value.item() == pytest.approx(torch.linalg.matrix_norm(layer.weight, 2).item() ** 2, rel=1e-9, abs=0)


@BOTH
def test_sparse_gradients_of_an_embedding(form: Forms) -> None:
    results = []
    for sparse in (True, False):
        torch.manual_seed(0)
        layer = nn.Embedding(5, 4, sparse=sparse)
        penalty = SpectralNormPenalty(layer, 0.1, embeddings=True)
        layer(torch.tensor([1, 2])).sum().backward()
        form(penalty)
        results.append(gradients(layer))
    assert_close(*results)


def test_functional_call_is_not_seen() -> None:
    """The penalty is of the module's own parameters."""
    model = network()
    penalty = SpectralNormPenalty(model)
    others = {name: (p.detach() * 2).requires_grad_() for name, p in model.named_parameters()}
    (torch.func.functional_call(model, others, images()).sum() * 0 + penalty()).backward()
    assert not any(p.grad is not None and p.grad.any() for p in others.values())


def test_an_operator_needs_the_shape_of_the_inputs() -> None:
    with pytest.raises(ConfigError, match=r"SpectralNormPenalty of operators needs input_shape=\(C, H, W\)"):
        SpectralNormPenalty(network(), operator=True)()
