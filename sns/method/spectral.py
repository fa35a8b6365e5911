"""Spectral norm regularisation (section 3.2, equation 1).

It adds lambda / 2 * sum_l sigma(W_l)^2 to the risk.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from sns.common import accelerator
from sns.common.precision import full_precision
from sns.config.schema import later, require
from sns.linalg.power_iteration import PaddedStack, group_by_rows, power_iteration, random_unit_vectors
from sns.linalg.weights import memory_order, paper_order
from sns.method.base import Method, Risk, Sums, register, trained_weights


@dataclass
class SpectralOptions:
    """The paper's lambda is 0.01, with one power iteration a step."""

    name: str = "spectral"
    factor: float = 0.01  # lambda, before `scale`
    n_iterations: int = 1  # power iterations a step, which start from v of the last step
    scale: float = later(1.0)  # lambda is factor * scale: a setting matches the paper's dose by it

    def __post_init__(self) -> None:
        require(self.factor >= 0, f"method.factor={self.factor} must not be negative")
        require(self.scale >= 0, f"method.scale={self.scale} must not be negative")
        require(self.n_iterations >= 1, f"method.n_iterations={self.n_iterations} must be at least 1")


@register("spectral")
class Spectral(Method):
    """Adds lambda * sigma * u v^T to the gradient of every weight (Algorithm 1, corrected).

    u and v are unit vectors, treated as constants; v is stored from step to step. On a CUDA GPU the
    small matrices are processed in a few padded stacks, because kernel launches dominate the time,
    and the iteration runs beside the passes on a stream of its own, since it needs the weights
    only. On a CPU they are processed one by one, because copies dominate the time.
    """

    Config = SpectralOptions

    def __init__(self, options: SpectralOptions, model: nn.Module, generator: torch.Generator) -> None:
        super().__init__(options, model, generator)
        self.factor: float = options.factor * options.scale
        self.weights = trained_weights(options.name, model)
        self.device = accelerator.of(self.weights[0].tensor.device)
        self.stream = self.device.stream()
        self.iterated: list[tuple[Tensor, Tensor]] = []  # (sigma, u) of each group, from backward to regularize
        self._arrange(generator, stacked=self.device.captures)

    def _arrange(self, generator: torch.Generator, stacked: bool) -> None:
        like = self.weights[0].tensor.detach()
        shapes = [weight.matrices().shape for weight in self.weights]
        self.columns = [shape[2] for shape in shapes]
        single = [i for i, weight in enumerate(self.weights) if weight.blocks == 1]
        rows_columns = [(shapes[i][1], shapes[i][2]) for i in single]
        groups = group_by_rows(rows_columns) if stacked else [[place] for place in range(len(single))]
        self.groups = [[single[place] for place in group] for group in groups]
        self.groups += [[i] for i in range(len(shapes)) if i not in single]  # a layer's blocks are a stack of their own
        self.stacks = [
            PaddedStack([(shapes[i][1], shapes[i][2]) for i in group], like) if len(group) > 1 else None
            for group in self.groups
        ]
        starts = [torch.stack(random_unit_vectors([columns] * blocks, generator)) for blocks, _, columns in shapes]
        self.v = []  # one (L, n_max) tensor a group
        for group in self.groups:
            rows = [row for i in group for row in self._in_memory(i, starts[i])]
            self.v.append(pad_sequence(rows, batch_first=True).to(like))

    def _in_memory(self, i: int, v: Tensor) -> Tensor:
        """v (blocks, n) of weight `i`, from the paper's column order to that of its memory."""
        weight = self.weights[i]
        return memory_order(weight.tensor, v[0]).unsqueeze(0) if weight.plain else v

    def backward(self, risk: Risk, x: Tensor, share: float) -> Sums:
        """The gradient of the risk. With streams the first pass also starts the iteration."""
        if self.stream is not None and not self.iterated:
            with self.device.beside(self.stream):
                self.iterated = self._iterate()
        return super().backward(risk, x, share)

    @torch.no_grad()
    def regularize(self) -> Tensor:
        """Returns lambda / 2 * sum of sigma^2, (), with sigma from the power iteration."""
        if self.iterated:
            self.device.join(self.stream)
        found, self.iterated = self.iterated or self._iterate(), []
        for group, (sigma, u), v in zip(self.groups, found, self.v, strict=True):
            self._add(group, self.factor * sigma.unsqueeze(-1) * u, v)
        penalty: Tensor = 0.5 * self.factor * torch.stack([sigma.square().sum() for sigma, _ in found]).sum()
        return penalty

    @torch.no_grad()
    def _iterate(self) -> list[tuple[Tensor, Tensor]]:
        """(sigma, u) of each group after the iterations of this update; moves `v`."""
        found = []
        with full_precision(self.weights[0].tensor.device):
            for group, stack, v in zip(self.groups, self.stacks, self.v, strict=True):
                matrices = [self.weights[i].matrices() for i in group]
                stacked = matrices[0] if stack is None else stack.fill([matrix[0] for matrix in matrices])
                sigma, u, new = power_iteration(stacked, v, self.options.n_iterations)
                v.copy_(new)
                if self.weights[group[0]].blocks > 1:  # the norm of a block-diagonal matrix is that of one block
                    sigma = sigma * torch.zeros_like(sigma).scatter_(0, sigma.argmax(0, keepdim=True), 1.0)
                found.append((sigma, u))
        return found

    def _add(self, group: list[int], scaled: Tensor, v: Tensor) -> None:
        if self.weights[group[0]].blocks > 1:
            self.weights[group[0]].add_outer(scaled, v)
            return
        for place, i in enumerate(group):
            self.weights[i].add_outer(scaled[place : place + 1], v[place : place + 1, : self.columns[i]])

    def state_dict(self) -> dict[str, Tensor]:
        """v of every weight matrix, in model order and the paper's column order.

        A checkpoint thus depends neither on the stacks nor on the memory format.
        """
        vectors: dict[str, Tensor] = {}
        for group, v in zip(self.groups, self.v, strict=True):
            for place, i in enumerate(group):
                weight = self.weights[i]
                own = v.flatten() if weight.blocks > 1 else v[place, : self.columns[i]]
                vectors[f"v{i}"] = (paper_order(weight.tensor, own) if weight.plain else own).clone()
        return dict(sorted(vectors.items(), key=lambda item: int(item[0][1:])))

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restores every v."""
        for group, v in zip(self.groups, self.v, strict=True):
            for place, i in enumerate(group):
                saved = self._in_memory(i, state[f"v{i}"].view(self.weights[i].blocks, -1))
                v[place : place + len(saved), : saved.shape[1]].copy_(saved)
