"""sigma_1, u_1 and v_1 of every weight matrix, by a power iteration that goes on from call to call.

`LeadingVectors` is for the matrices of section 3.2, `LeadingImages` for layers as maps of images.
What a method does with a result is a function of sigma: `Leading.add_gradient`, `add_weight` and
`scale`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.rnn import pad_sequence

from sns.common import accelerator
from sns.common.errors import ConfigError
from sns.common.precision import full_precision
from sns.linalg.conv_operator import Convolution
from sns.linalg.power_iteration import PaddedStack, group_by_rows, power_iteration, random_unit_vectors
from sns.linalg.weights import Weight, channels_last, memory_order, paper_order

Iteration = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor, Tensor]]  # as `power_iteration`
Size = tuple[int, ...]


class Leading(ABC):
    """What an iteration gives for L matrices: sigma (L,), unit vectors u and v, all constants.

    The L matrices are those of `weights`, or the blocks of one weight.
    """

    def __init__(self, weights: Sequence[Weight], sigma: Tensor, u: Tensor, v: Tensor) -> None:
        self.weights, self.sigma, self.u, self.v = weights, sigma, u, v

    def of_norms(self, values: Tensor) -> Tensor:
        """`values` (L,), and 0 for a block that is not the one with its weight's largest sigma.

        The norm of a block-diagonal matrix is that of one block.
        """
        if len(self.weights) == len(values):
            return values
        return values * torch.zeros_like(values).scatter_(0, self.sigma.argmax(0, keepdim=True), 1.0)

    def norms(self) -> Tensor:
        """The largest sigma of each of `weights`: (number of weights,)."""
        return self.sigma if len(self.weights) == len(self.sigma) else self.sigma.amax(0, keepdim=True)

    @abstractmethod
    def add_gradient(self, coefficient: Tensor) -> None:
        """Adds coefficient (L,) * d sigma / d W to the gradient of every weight."""

    @abstractmethod
    def add_weight(self, coefficient: Tensor) -> None:
        """Adds coefficient (L,) * u v^T to every weight. ConfigError if it is parametrised."""

    def scale(self, factor: Tensor) -> None:
        """Multiplies every weight, or every block of one, by factor (L,). ConfigError if it is
        parametrised."""
        single = len(self.weights) < len(factor)
        for weight, part in zip(self.weights, [factor] if single else factor.split(1), strict=True):
            weight.scale(part)

    @abstractmethod
    def live(self) -> Tensor:
        """sigma = u^T W v (L,) as a function of the weights, for autograd."""


class _Matrices(Leading):
    """Leading vectors of matrices: u (L, m) and v (L, n), padded by zeros to the longest."""

    def __init__(self, weights: Sequence[Weight], sigma: Tensor, u: Tensor, v: Tensor, columns: Sequence[int]) -> None:
        """`columns`: n of each weight."""
        super().__init__(weights, sigma, u, v)
        self.columns = columns

    def _parts(self, coefficient: Tensor) -> list[tuple[Weight, Tensor, Tensor]]:
        """Each weight with coefficient * u and v, (blocks, m) and (blocks, n)."""
        scaled = coefficient.unsqueeze(-1) * self.u
        if len(self.weights) < len(scaled):
            return [(self.weights[0], scaled, self.v)]
        parts = enumerate(zip(self.weights, self.columns, strict=True))
        return [(w, scaled[i : i + 1], self.v[i : i + 1, :n]) for i, (w, n) in parts]

    def add_gradient(self, coefficient: Tensor) -> None:
        for weight, u, v in self._parts(coefficient):
            weight.add_outer(u, v)

    def add_weight(self, coefficient: Tensor) -> None:
        for weight, u, v in self._parts(coefficient):
            weight.change(u, v)

    def live(self) -> Tensor:
        parts = self._parts(torch.ones_like(self.sigma))
        return torch.cat([(u.unsqueeze(1) @ w.live() @ v.unsqueeze(2)).flatten() for w, u, v in parts])


class LeadingVectors:
    """The largest singular value of every weight matrix, by `iterate`; v persists.

    On a device that captures graphs the small matrices are processed in a few padded stacks,
    because kernel launches dominate the time. On a CPU they are processed one by one, because
    copies dominate it. `state_dict` depends on neither, nor on the memory format.
    """

    def __init__(
        self,
        weights: Sequence[Weight],
        generator: torch.Generator,
        iteration: Iteration = power_iteration,
        stacked: bool | None = None,
    ) -> None:
        """`generator`, on the CPU, draws the first v (Algorithm 1, line 2). `stacked`: None, as the
        device needs it."""
        self.weights, self.iteration = list(weights), iteration
        self.stacked = stacked
        shapes = [weight.matrices().shape for weight in self.weights]
        self._arrange([torch.stack(random_unit_vectors([n] * blocks, generator)) for blocks, _, n in shapes])

    def _layout(self) -> list[tuple[torch.device, torch.dtype, bool]]:
        """What the arrangement depends on and `model.to` changes."""
        tensors = [weight.tensor.detach() for weight in self.weights]
        return [(t.device, t.dtype, channels_last(t)) for t in tensors]

    def _arrange(self, vectors: Sequence[Tensor]) -> None:
        """Builds groups, stacks and v from `vectors` (blocks, n), in the paper's column order."""
        self.layout = self._layout()
        matrices = [weight.matrices() for weight in self.weights]
        shapes = [(w.shape[1], w.shape[2]) for w in matrices]
        self.columns = [n for _, n in shapes]
        single = [i for i, weight in enumerate(self.weights) if weight.blocks == 1]
        stacked = accelerator.of(matrices[0].device).captures if self.stacked is None else self.stacked
        groups = group_by_rows([shapes[i] for i in single]) if stacked else [[place] for place in range(len(single))]
        self.groups = [[single[place] for place in group] for group in groups]
        self.groups += [[i] for i in range(len(shapes)) if i not in single]  # a layer's blocks are a stack of their own
        self.stacks = [
            PaddedStack([shapes[i] for i in group], matrices[group[0]]) if len(group) > 1 else None
            for group in self.groups
        ]
        self.v = []  # one (L, n_max) tensor a group
        for group in self.groups:
            rows = [row for i in group for row in self._in_memory(i, vectors[i])]
            self.v.append(pad_sequence(rows, batch_first=True).to(matrices[group[0]]))

    def _in_memory(self, i: int, v: Tensor) -> Tensor:
        """v (blocks, n) of weight `i`, from the paper's column order to that of its memory."""
        return memory_order(self.weights[i].shape, v[0]).unsqueeze(0) if self._permuted(i) else v

    def _permuted(self, i: int) -> bool:
        """Whether the columns of matrix `i` lie in another order than the paper's."""
        return self.weights[i].plain and self.layout[i][2]

    def follow(self) -> None:
        """Rearranges v if the model has moved to another device, type or memory format."""
        if self._layout() != self.layout:
            vectors = zip(self.weights, self.state_dict().values(), strict=True)
            self._arrange([v.view(weight.blocks, -1) for weight, v in vectors])

    @torch.no_grad()
    def iterate(
        self, n_iterations: int = 1, moving: bool = True, fresh: torch.Generator | None = None
    ) -> list[Leading]:
        """sigma, u and v of every weight after `n_iterations` from the last v.

        `moving`: whether the next call starts from there. `fresh`: of the device; v is first drawn
        anew from it. Nothing waits for the device.
        """
        results: list[Leading] = []
        with full_precision(self.v[0].device):
            for group, stack, v in zip(self.groups, self.stacks, self.v, strict=True):
                if fresh is not None:
                    self._draw(group, v, fresh)
                weights = [self.weights[i] for i in group]
                matrices = [weight.matrices() for weight in weights]
                stacked = matrices[0] if stack is None else stack.fill([matrix[0] for matrix in matrices])
                sigma, u, new = self.iteration(stacked, v, n_iterations)
                if moving:
                    v.copy_(new)
                results.append(_Matrices(weights, sigma, u, new, [self.columns[i] for i in group]))
        return results

    def _draw(self, group: Sequence[int], v: Tensor, generator: torch.Generator) -> None:
        """A Gaussian v, the same one in every memory format."""
        v.normal_(generator=generator)  # the padding too: it meets zero columns
        for place, i in enumerate(group):
            if self._permuted(i):
                own = v[place, : self.columns[i]]
                own.copy_(memory_order(self.weights[i].shape, own))

    def state_dict(self) -> dict[str, Tensor]:
        """v of every weight matrix, in model order and the paper's column order."""
        vectors: dict[int, Tensor] = {}
        for group, v in zip(self.groups, self.v, strict=True):
            for place, i in enumerate(group):
                weight = self.weights[i]
                own = v.flatten() if weight.blocks > 1 else v[place, : self.columns[i]]
                vectors[i] = (paper_order(weight.shape, own) if self._permuted(i) else own).clone()
        return {f"v{i}": vectors[i] for i in sorted(vectors)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restores every v. ValueError if one is missing."""
        _require_vectors(state, len(self.weights))
        for group, v in zip(self.groups, self.v, strict=True):
            for place, i in enumerate(group):
                saved = self._in_memory(i, state[f"v{i}"].view(self.weights[i].blocks, -1))
                v[place : place + len(saved), : saved.shape[1]].copy_(saved)


class _Image(Leading):
    """Leading vectors of one layer as a map of images: sigma (1,), u and v (1, channels, H, W)."""

    def __init__(self, weight: Weight, operator: Convolution, sigma: Tensor, u: Tensor, v: Tensor) -> None:
        super().__init__([weight], sigma, u, v)
        self.operator = operator

    def add_gradient(self, coefficient: Tensor) -> None:
        (weight,) = self.weights
        weight.add_gradient(self.operator.outer(coefficient * self.u, self.v).view(weight.shape))

    def add_weight(self, coefficient: Tensor) -> None:
        raise ConfigError("u v^T of a layer as a map of images is no kernel: operator=True cannot change weights")

    def live(self) -> Tensor:
        (weight,) = self.weights
        operator = as_operator("an operator's penalty", weight, self.operator.input_size, weight.tensor)
        return (self.u * operator.apply(self.v)).sum().unsqueeze(0)


class LeadingImages:
    """The norm of every layer as a map of images of its input size, by `iterate`; v persists.

    The padding and stride are those of training. A linear layer is a 1x1 convolution of one pixel.
    """

    def __init__(self, name: str, weights: Sequence[Weight], generator: torch.Generator) -> None:
        """`name`: of who asks, for messages. ConfigError for a layer that is no such map."""
        self.name, self.weights, self.generator = name, list(weights), generator
        for weight in self.weights:
            as_operator(name, weight)  # an error at the start, not at the first update
        self.v: list[Tensor] = []  # one (1, I, H, W) a layer, in model order; none before `begin`

    def begin(self, sizes: Mapping[str, Size]) -> None:
        """Draws v. `sizes`: of the input of each convolution, by its name (`input_sizes`)."""
        operators = [known_operator(self.name, weight, sizes) for weight in self.weights]
        shapes = [operator.input_shape for operator in operators]
        starts = random_unit_vectors([torch.Size(shape).numel() for shape in shapes], self.generator)
        tensors = [operator.weight for operator in operators]
        self.v = [v.view(shape).to(w) for v, shape, w in zip(starts, shapes, tensors, strict=True)]

    def follow(self) -> None:
        """Moves v, if it is drawn, to the device and type of the weights."""
        self.v = [v.to(as_operator(self.name, w).weight) for w, v in zip(self.weights, self.v, strict=False)]

    @torch.no_grad()
    def iterate(
        self, n_iterations: int = 1, moving: bool = True, fresh: torch.Generator | None = None
    ) -> list[Leading]:
        """As `LeadingVectors.iterate`."""
        results: list[Leading] = []
        with full_precision(self.v[0].device):
            for weight, v in zip(self.weights, self.v, strict=True):
                if fresh is not None:
                    v.normal_(generator=fresh)
                operator = as_operator(self.name, weight, (v.shape[2], v.shape[3]))
                sigma, u, new = operator.power_iteration(v, n_iterations)
                if moving:
                    v.copy_(new)
                results.append(_Image(weight, operator, sigma.unsqueeze(0), u, new))
        return results

    def state_dict(self) -> dict[str, Tensor]:
        """v of every layer in model order, shaped as its input; {} before `begin`."""
        return {f"v{i}": v.clone() for i, v in enumerate(self.v)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restores every v. ValueError if one is missing, and not all."""
        if state:
            _require_vectors(state, len(self.weights))
        operators = [as_operator(self.name, weight) for weight in self.weights]
        self.v = [state[f"v{i}"].to(o.weight, copy=True) for i, o in enumerate(operators)] if state else []


def _require_vectors(state: Mapping[str, Tensor], count: int) -> None:
    if any(f"v{i}" not in state for i in range(count)):
        raise ValueError(f"the saved vectors are not those of this model, which has {count} weight matrices")


def known_operator(name: str, weight: Weight, sizes: Mapping[str, Size]) -> Convolution:
    """As `as_operator`, with the input sizes of all convolutions by name (`input_sizes`).

    ConfigError also for a convolution that is not among them.
    """
    size = sizes.get(weight.name.rpartition(".")[0])
    if size is None and isinstance(weight.module, _ConvNd):
        raise ConfigError(f"{weight.name} takes no part in the forward pass: its norm is not defined")
    return as_operator(name, weight, size)


def as_operator(name: str, weight: Weight, size: Size | None = None, tensor: Tensor | None = None) -> Convolution:
    """The layer without its bias as a map of images. It shares the memory of the weight, unless
    that has 16 bits: then it has 32.

    `size`: of the layer's input; 1 in each dimension if None. `tensor`: the weight; detached if
    None. ConfigError, in which `name` says who asks, for a layer that is no such map.
    """
    tensor = weight.tensor.detach() if tensor is None else tensor
    tensor = tensor.float() if tensor.dtype.itemsize < 4 else tensor
    if not isinstance(weight.module, _ConvNd):
        return Convolution(tensor.flatten(1)[:, :, None, None], (1, 1), (1, 1), (0, 0))
    operator = Convolution.of(weight.module, tensor, size or (1,) * (tensor.dim() - 2))
    if operator is None:
        raise ConfigError(
            f"{name} cannot treat {weight.name}: convolutions must be in 1 or 2 dimensions with zero padding, "
            "equal on both sides; use method=spectral, or operator=False"
        )
    return operator
