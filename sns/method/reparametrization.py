"""Reparametrisations by sigma for any model and any training loop, and the methods made of them.

normalization = SpectralNormalization(model)    # before the optimizer, DDP and torch.compile
loss.backward(); optimizer.step(); normalization.update_()
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from sns.common.precision import full_precision
from sns.common.seed import generator as seeded
from sns.config.schema import require
from sns.linalg.power_iteration import TINY, power_iteration, random_unit_vectors
from sns.linalg.weights import Weight, channels_last, memory_order, paper_order, to_matrices
from sns.method.base import Method, trained_weights

FIRST = 15  # power iterations at the start, as many as torch's own spectral_norm makes


class Parametrization(nn.Module, ABC):
    """What torch.nn.utils.parametrize calls: the tensor that is trained to the one that is used.

    A tensor has K weight matrices: 1, or several if attention or a recurrent layer packs them. They
    are made of L blocks, L = K but for a convolution in groups, where K = 1. The buffers u (L, m)
    and v (L, n), in the paper's column order, are constants of every pass. Only `follow` moves
    them: all passes of an update, evaluations and compiled code see one weight.
    """

    u: Tensor
    v: Tensor

    def __init__(self, weight: Weight, generator: torch.Generator) -> None:
        """`weight`: the matrix, or one of those that its tensor packs."""
        super().__init__()
        count = weight.part[1]
        self.blocks, self.transposed, self.joint = max(weight.blocks, count), weight.transposed, weight.blocks > 1
        self.count = 1 if self.joint else count
        self.following = 0  # power iterations to be made by the next call
        tensor: Tensor = getattr(weight.module, weight.attribute).detach()
        matrices = self.matrices(tensor)
        self.rows, self.columns = matrices.shape[1:]
        start = torch.stack(random_unit_vectors([self.columns] * self.blocks, generator))
        self.register_buffer("u", matrices.new_zeros(self.blocks, self.rows))
        self.register_buffer("v", start.to(matrices))
        self._iterate(tensor, FIRST)

    def matrices(self, tensor: Tensor) -> Tensor:
        """The blocks (L, m, n)."""
        return to_matrices(tensor, self.blocks, self.transposed)

    def forward(self, tensor: Tensor) -> Tensor:
        """The tensor that the layer uses, in the shape and type of the trained one."""
        if self.following:
            self._iterate(tensor, self.following)
            return tensor
        matrices = self.matrices(tensor)
        # Copies: a graph not yet differentiated holds them, and `follow` writes in place.
        u, v = self.u.to(matrices, copy=True), self._own_columns(tensor).to(matrices, copy=True)
        # Products and sums entry by entry: neither autocast nor TensorFloat-32 rounds them.
        sigma = ((matrices * v.unsqueeze(1)).sum(2) * u).sum(1)
        return self.used(tensor, sigma, u, v).to(tensor.dtype)

    @abstractmethod
    def used(self, tensor: Tensor, sigma: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """The tensor that the layer uses. sigma = u^T W v (L,) carries the gradient; v is in the
        column order of `matrices`."""

    def right_inverse(self, tensor: Tensor) -> Tensor:
        """What is trained when a tensor is assigned to the layer: that tensor."""
        return tensor

    def norms(self, sigma: Tensor) -> Tensor:
        """The norm of each weight matrix (K,), from sigma (L,); positive."""
        norms = sigma.max(dim=0, keepdim=True).values if self.joint else sigma
        return norms.clamp_min(TINY)

    def scaled(self, tensor: Tensor, factor: Tensor) -> Tensor:
        """Each weight matrix of the tensor times its factor (K,)."""
        if len(factor) == 1:
            return tensor * factor
        parts: Tensor = tensor.unflatten(0, (len(factor), -1))
        return torch.flatten(parts * factor.view(-1, *(1,) * tensor.dim()), end_dim=1)

    def _own_columns(self, tensor: Tensor) -> Tensor:
        """v in the column order of `matrices(tensor)`."""
        permuted = self.blocks == 1 and not self.transposed and channels_last(tensor)
        return memory_order(tensor.shape, self.v[0]).unsqueeze(0) if permuted else self.v

    @torch.no_grad()
    def _iterate(self, tensor: Tensor, n_iterations: int) -> None:
        matrices, v = self.matrices(tensor), self._own_columns(tensor)
        with full_precision(tensor.device):
            _, u, new = power_iteration(matrices, v.to(matrices), n_iterations)
        self.u.copy_(u)
        self.v.copy_(new if v is self.v else paper_order(tensor.shape, new[0]).unsqueeze(0))

    def follow(self, layer: parametrize.ParametrizationList, n_iterations: int) -> None:
        """Power iterations on what `layer`, the list that this one is in, gives to it now."""
        self.following = n_iterations
        try:
            layer()
        finally:
            self.following = 0


class Reparametrization(ABC):
    """Reparametrises every weight matrix of `model`, which stays an ordinary module.

    The trained tensor is the layer's `parametrizations.weight.original`; `layer.weight` is what the
    layer uses, and what measurements show. Call `update_` once after every step of the optimizer:
    it makes `n_iterations` power iterations. Evaluation makes none. The vectors are buffers of the
    model: `model.state_dict()` and copies have them. Layers that share a weight share all of it.
    Frozen weights are left out.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        n_iterations: int = 1,
        generator: torch.Generator | None = None,
        name: str | None = None,
        **which: bool,
    ) -> None:
        """`generator`: of the first v; None: a fixed seed. `name`: in messages; None: the class.
        `which`: embeddings and heads, as in `weights_of`. ConfigError for options out of range, or
        if nothing is left."""
        require(n_iterations >= 1, f"n_iterations={n_iterations} must be at least 1")
        self.n_iterations = n_iterations
        generator = seeded(0, "power_iteration") if generator is None else generator
        weights = trained_weights(name or type(self).__name__, model, **which)
        firsts: dict[tuple[int, str], Weight] = {}
        for weight in weights:
            firsts.setdefault((id(weight.module), weight.attribute), weight)
        self.layers: list[tuple[parametrize.ParametrizationList, Parametrization]] = []
        for weight in firsts.values():
            holders, made = _holders(model, weight), self.parametrization(weight, generator)
            for module, attribute in holders:
                parametrize.register_parametrization(module, attribute, made)
                if isinstance(module, nn.RNNBase):
                    _use_parametrised(module)
            self.layers.append((weight.module.parametrizations[weight.attribute], made))  # type: ignore[index, arg-type]

    @abstractmethod
    def parametrization(self, weight: Weight, generator: torch.Generator) -> Parametrization:
        """The parametrisation of the tensor that `weight` is, or is a part of."""

    @torch.no_grad()
    def update_(self) -> None:
        """Moves u and v to the present weights. Nothing waits for the device."""
        for layer, parametrization in self.layers:
            parametrization.follow(layer, self.n_iterations)


def _holders(model: nn.Module, weight: Weight) -> list[tuple[nn.Module, str]]:
    """Every module that uses the parameter of `weight`, and its name there."""
    held = weight.parameter
    if held is None:
        return [(weight.module, weight.attribute)]
    return [(m, name) for m in model.modules() for name, parameter in m._parameters.items() if parameter is held]


def _use_parametrised(module: nn.RNNBase) -> None:
    """torch's recurrent layers use a list of parameters, which no parametrisation reaches."""
    if getattr(module, "_uses_parametrised", False):
        return

    def fill(layer: nn.Module, *_: Any) -> None:
        names: list[str] = layer._flat_weights_names  # type: ignore[assignment]
        layer._flat_weights = [getattr(layer, name) for name in names]  # type: ignore[assignment]

    def clear(layer: nn.Module, *_: Any) -> None:  # else a copy of the model would meet tensors with a graph
        layer._flat_weights = []  # type: ignore[assignment]

    module.register_forward_pre_hook(fill)
    module.register_forward_hook(clear, always_call=True)
    module._uses_parametrised = True


@dataclass
class ReparametrizationOptions:
    """One power iteration an update, as published."""

    name: str = ""
    n_iterations: int = 1  # power iterations an update, which start from v of the last

    def __post_init__(self) -> None:
        require(self.n_iterations >= 1, f"method.n_iterations={self.n_iterations} must be at least 1")


class ReparametrizationMethod(Method):
    """A method that trains the risk of a reparametrised network. A subclass defines `make`."""

    reparametrization: Reparametrization

    def __init__(self, options: Any, model: nn.Module, generator: torch.Generator) -> None:
        super().__init__(options, model, generator)
        self.generator = generator

    def make(self, **general: Any) -> Reparametrization:
        """Reparametrises the model, with the method's options beside the `general` ones."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Reparametrises the weights. The vectors become part of the model's state."""
        name = f"method={self.options.name}"
        self.reparametrization = self.make(n_iterations=self.options.n_iterations, generator=self.generator, name=name)

    def project(self) -> None:
        """Power iterations on the new weights, for the passes of the next update."""
        self.reparametrization.update_()
