"""Every weight of a network as the matrix of section 3.2.

| layer | matrix |
|---|---|
| linear | its weight (out, in) |
| convolution in 1 to 3 dimensions | (out, in * kernel size) |
| transposed convolution, (in, out, ...) | (out, in * kernel size), as in torch's spectral_norm |
| a convolution in groups | block-diagonal, a block a group: its norm is the largest of a block's |
| attention with packed projections | one each for q, k and v, or for each head of them |
| recurrent | one for each gate, of the inputs and of the hidden state |

A weight that several layers share is one matrix. A parametrised weight is what the layer uses.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils import parametrize

from sns.common.errors import ConfigError


@dataclass(frozen=True, eq=False)
class Weight:
    """One weight matrix of a network."""

    name: str  # the parameter's, such as features.0.weight; a part of it in brackets: attention.in_proj_weight[q]
    module: nn.Module
    attribute: str
    part: tuple[int, int] = (0, 1)  # which of how many equal blocks of rows
    blocks: int = 1
    transposed: bool = False

    @property
    def tensor(self) -> Tensor:
        """The weight in its own shape. It carries a graph if it is parametrised."""
        whole: Tensor = getattr(self.module, self.attribute)
        return self._own(whole)

    def _own(self, whole: Tensor) -> Tensor:
        place, count = self.part
        rows = len(whole) // count
        return whole if count == 1 else whole[place * rows : (place + 1) * rows]

    @property
    def parameter(self) -> nn.Parameter | None:
        """The parameter that holds the weight, of which it may be a part; None if parametrised."""
        return self.module._parameters.get(self.attribute)

    @property
    def sources(self) -> list[nn.Parameter]:
        """The parameters that the weight depends on."""
        if self.parameter is not None:
            return [self.parameter]
        return list(self.module.parametrizations[self.attribute].parameters())  # type: ignore[index, union-attr]

    @property
    def trained(self) -> bool:
        """Whether training may change it: not all of `sources` are frozen."""
        return any(source.requires_grad for source in self.sources)

    @property
    def plain(self) -> bool:
        """Whether `as_matrix` of the weight is the matrix."""
        return self.blocks == 1 and not self.transposed

    @property
    def shape(self) -> torch.Size:
        """The weight's own shape."""
        return self.tensor.shape

    def matrices(self) -> Tensor:
        """The blocks (blocks, m, n), detached; a view where layout and type allow one.

        float32 for weights in 16 bits.
        """
        return self.live().detach()

    def live(self) -> Tensor:
        """As `matrices`, as a function of the weight, for autograd."""
        return to_matrices(self.tensor, self.blocks, self.transposed)

    def matrix(self) -> Tensor:
        """The whole matrix (blocks * m, blocks * n), columns in the paper's order, detached."""
        if self.plain:
            return self.tensor.detach().flatten(1)
        whole: Tensor = torch.block_diag(*self.matrices())
        return whole

    def from_matrices(self, matrices: Tensor) -> Tensor:
        """The inverse of `matrices` for any tensor (blocks, m, n): in the weight's own shape."""
        return from_matrices(matrices, self.tensor, self.transposed)

    def add_outer(self, u: Tensor, v: Tensor) -> None:
        """Adds the gradient u v^T of each block, u (blocks, m) and v (blocks, n), to `.grad`;
        nothing to that of a frozen weight."""
        if not self.trained:
            return
        parameter = self.parameter
        if parameter is not None and parameter.grad is not None and self._adds_in_place(parameter.grad, u):
            as_matrix(self._own(parameter.grad)).addr_(u[0], v[0])
        else:
            self.add_gradient(self.from_matrices(u.unsqueeze(2) * v.unsqueeze(1)))

    def add_product(self, left: Tensor, right: Tensor, factor: float) -> None:
        """Adds the gradient factor * left right of each block, left (blocks, m, k) and right
        (blocks, k, n), to `.grad`; nothing to that of a frozen weight."""
        if not self.trained:
            return
        parameter = self.parameter
        if parameter is not None and parameter.grad is not None and self._adds_in_place(parameter.grad, left):
            as_matrix(self._own(parameter.grad)).addmm_(left[0], right[0], alpha=factor)
        else:
            self.add_gradient(self.from_matrices(factor * (left @ right)))

    def _adds_in_place(self, holder: Tensor, u: Tensor) -> bool:
        """Whether the matrix is a view of `holder`, a parameter or its gradient, in u's type."""
        return self.plain and holder.dtype == u.dtype and not holder.is_sparse

    @torch.no_grad()
    def change(self, u: Tensor, v: Tensor) -> None:
        """Adds u v^T of each block to the weight itself. ConfigError if it is parametrised."""
        parameter = self.changeable()
        if self._adds_in_place(parameter, u):
            as_matrix(self._own(parameter)).addr_(u[0], v[0])
        else:
            self._own(parameter).add_(self.from_matrices(u.unsqueeze(2) * v.unsqueeze(1)))

    @torch.no_grad()
    def assign(self, matrices: Tensor) -> None:
        """Sets the blocks to `matrices` (blocks, m, n). ConfigError if the weight is
        parametrised."""
        self._own(self.changeable()).copy_(self.from_matrices(matrices))

    @torch.no_grad()
    def scale(self, factors: Tensor) -> None:
        """Multiplies each block by its factor (blocks,), or all by one (1,). ConfigError if the
        weight is parametrised."""
        blocks = self._own(self.changeable()).unflatten(0, (self.blocks, -1))
        blocks.mul_(factors.view(-1, *(1,) * (blocks.dim() - 1)))

    def changeable(self) -> nn.Parameter:
        """The parameter that holds the weight. ConfigError if it is parametrised."""
        if self.parameter is None:
            raise ConfigError(f"{self.name} is parametrised: it cannot be changed after a step; remove one of the two")
        return self.parameter

    def add_gradient(self, gradient: Tensor) -> None:
        """Adds a gradient with respect to the weight, in its shape, to its parameters' `.grad`;
        nothing where they are frozen."""
        if not self.trained:
            return
        parameter = self.parameter
        if parameter is None:
            with torch.enable_grad():
                self.tensor.backward(gradient)  # through the parametrisation
        else:
            if parameter.grad is None:  # it took no part in the loss
                parameter.grad = torch.zeros_like(parameter)
            elif parameter.grad.is_sparse:  # of an embedding with sparse=True: the penalty's is dense
                parameter.grad = parameter.grad.to_dense()
            self._own(parameter.grad).add_(gradient)


def weights_of(model: nn.Module, embeddings: bool = False, heads: bool = False) -> list[Weight]:
    """Every weight matrix of the table above, in the order of the modules, each once.

    `embeddings`: also the tables of embeddings, (entries, dimension). `heads`: q, k and v of
    attention as a matrix for each head.
    """
    found: dict[tuple[int, tuple[int, int]], Weight] = {}
    for prefix, module in model.named_modules():
        for weight in _of_module(f"{prefix}." if prefix else "", module, embeddings, heads):
            found.setdefault((id(weight.sources[0]), weight.part), weight)
    return list(found.values())


def _of_module(prefix: str, module: nn.Module, embeddings: bool, heads: bool) -> Iterator[Weight]:
    if isinstance(module, nn.Embedding | nn.EmbeddingBag) and embeddings:
        yield Weight(f"{prefix}weight", module, "weight")
    elif isinstance(module, nn.Linear | _ConvNd):
        if "weight" in module._parameters or parametrize.is_parametrized(module, "weight"):
            groups = getattr(module, "groups", 1)
            yield Weight(f"{prefix}weight", module, "weight", (0, 1), groups, isinstance(module, _ConvTransposeNd))
    elif isinstance(module, nn.MultiheadAttention | nn.RNNBase | nn.RNNCellBase):
        count = module.num_heads if heads and isinstance(module, nn.MultiheadAttention) else 1
        for attribute, letters in _packed(module).items():
            parts = [f"{letter}{head}" for letter in letters for head in range(count)] if count > 1 else list(letters)
            for place, part in enumerate(parts):
                label = f"[{part}]" if len(parts) > 1 else ""
                yield Weight(f"{prefix}{attribute}{label}", module, attribute, (place, len(parts)))


def _packed(module: nn.Module) -> dict[str, str]:
    """The names of a module's weights, and a letter for each part of its rows."""
    if isinstance(module, nn.MultiheadAttention):
        separate = {f"{letter}_proj_weight": letter for letter in "qkv"}
        return {"in_proj_weight": "qkv"} if module._qkv_same_embed_dim else separate
    lstm, gru = isinstance(module, nn.LSTM | nn.LSTMCell), isinstance(module, nn.GRU | nn.GRUCell)
    gates = "ifgo" if lstm else "rzn" if gru else "h"  # in torch's order of rows
    names = module._flat_weights_names if isinstance(module, nn.RNNBase) else ("weight_ih", "weight_hh")
    names = [name for name in names if name.startswith("weight")]
    return {name: "h" if name.startswith("weight_hr") else gates for name in names}


def weight_parameters(model: nn.Module) -> list[Tensor]:
    """The parameters that hold the weight matrices, each once; not those of parametrised ones."""
    held = {id(p): p for p in (weight.parameter for weight in weights_of(model)) if p is not None}
    return list(held.values())


def left_out(model: nn.Module, **which: bool) -> list[str]:
    """Names of the parameters with more than one dimension that are in none of `weights_of`, such
    as embeddings."""
    known = {id(source) for weight in weights_of(model, **which) for source in weight.sources}
    return [name for name, p in model.named_parameters() if p.dim() > 1 and id(p) not in known]


def to_matrices(tensor: Tensor, blocks: int = 1, transposed: bool = False) -> Tensor:
    """A tensor of a weight's shape as its blocks (blocks, m, n); a view where layout and type allow
    one. float32 for 16 bits. `transposed`: of a transposed convolution."""
    tensor = tensor.float() if tensor.dtype.itemsize < 4 else tensor
    if blocks == 1 and not transposed:
        return as_matrix(tensor).unsqueeze(0)
    parts: Tensor = tensor.unflatten(0, (blocks, -1))
    return torch.flatten(parts.transpose(1, 2) if transposed else parts, start_dim=2)


def from_matrices(matrices: Tensor, like: Tensor, transposed: bool = False) -> Tensor:
    """The inverse of `to_matrices`, in the shape and the column order of the tensor `like`."""
    if transposed:
        matrices = matrices.unflatten(2, (-1, *like.shape[2:])).transpose(1, 2)
    elif len(matrices) == 1 and channels_last(like):
        out, channels, *kernel = like.shape
        return matrices.view(out, *kernel, channels).permute(0, 3, 1, 2)
    return matrices.reshape(like.shape)


def as_matrix(weight: Tensor) -> Tensor:
    """(out, in, ...) as the (out, in * kernel size) matrix of section 3.2, a view.

    A channels_last kernel is viewed as (out, kh * kw * in): the same matrix with its columns in
    another order, hence with the same singular values; see `paper_order`. RuntimeError if the
    memory layout allows no view: what is added to a copy would be lost.
    """
    if channels_last(weight):
        weight = weight.permute(0, 2, 3, 1)
    return weight.view(weight.shape[0], -1)


def channels_last(weight: Tensor) -> bool:
    """Whether `as_matrix` has its columns in another order than section 3.2."""
    return weight.dim() == 4 and not weight.is_contiguous()


def paper_order(shape: torch.Size, v: Tensor) -> Tensor:
    """A right vector (n,) of a channels_last weight of `shape` in the column order of section
    3.2."""
    _, channels, height, width = shape
    return v.view(height, width, channels).permute(2, 0, 1).reshape(-1)


def memory_order(shape: torch.Size, v: Tensor) -> Tensor:
    """The inverse of `paper_order`."""
    return v.view(shape[1:]).permute(1, 2, 0).reshape(-1)
