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
from sns.linalg.weights import as_matrix, memory_order, paper_order, weight_parameters
from sns.method.base import Method, Risk, Sums, register


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
        self.weights = weight_parameters(model)
        self.device = accelerator.of(self.weights[0].device)
        self.stream = self.device.stream()
        self.found: list[tuple[Tensor, Tensor]] = []  # (sigma, u) of each group, from backward to regularize
        self._arrange(generator, stacked=self.device.captures)

    def _arrange(self, generator: torch.Generator, stacked: bool) -> None:
        like = self.weights[0].detach()
        shapes = [(w.shape[0], w[0].numel()) for w in self.weights]
        self.groups = group_by_rows(shapes) if stacked else [[i] for i in range(len(shapes))]
        self.stacks = [
            PaddedStack([shapes[i] for i in group], like) if len(group) > 1 else None for group in self.groups
        ]
        starts = random_unit_vectors([columns for _, columns in shapes], generator)
        starts = [memory_order(w, start) for w, start in zip(self.weights, starts, strict=True)]
        groups = [pad_sequence([starts[i] for i in group], batch_first=True) for group in self.groups]
        self.v = [v.to(like) for v in groups]  # one (L, n_max) tensor a group

    def backward(self, risk: Risk, x: Tensor, share: float) -> Sums:
        """The gradient of the risk. With streams the first pass also starts the iteration."""
        if self.stream is not None and not self.found:
            with self.device.beside(self.stream):
                self.found = self._iterate()
        return super().backward(risk, x, share)

    @torch.no_grad()
    def regularize(self) -> Tensor:
        """Returns lambda / 2 * sum of sigma^2, (), with sigma from the power iteration."""
        if self.found:
            self.device.join(self.stream)
        found, self.found = self.found or self._iterate(), []
        for group, (sigma, u), v in zip(self.groups, found, self.v, strict=True):
            self._add(group, self.factor * sigma.unsqueeze(-1) * u, v)
        penalty: Tensor = 0.5 * self.factor * torch.stack([sigma.square().sum() for sigma, _ in found]).sum()
        return penalty

    @torch.no_grad()
    def _iterate(self) -> list[tuple[Tensor, Tensor]]:
        """(sigma, u) of each group after the iterations of this update; moves `v`."""
        found = []
        with full_precision(self.weights[0].device):
            for group, stack, v in zip(self.groups, self.stacks, self.v, strict=True):
                matrices = [as_matrix(self.weights[i]) for i in group]
                stacked = matrices[0].unsqueeze(0) if stack is None else stack.fill(matrices)
                sigma, u, new = power_iteration(stacked, v, self.options.n_iterations)
                v.copy_(new)
                found.append((sigma, u))
        return found

    def _add(self, group: list[int], scaled: Tensor, v: Tensor) -> None:
        for place, i in enumerate(group):
            gradient = self.weights[i].grad
            assert gradient is not None
            matrix = as_matrix(gradient)
            matrix.addr_(scaled[place], v[place, : matrix.shape[1]])

    def state_dict(self) -> dict[str, Tensor]:
        """v of every weight matrix, in model order and the paper's column order.

        A checkpoint thus depends neither on the stacks nor on the memory format.
        """
        vectors: dict[str, Tensor] = {}
        for group, v in zip(self.groups, self.v, strict=True):
            for place, i in enumerate(group):
                weight = self.weights[i]
                vectors[f"v{i}"] = paper_order(weight, v[place, : weight[0].numel()]).clone()
        return dict(sorted(vectors.items(), key=lambda item: int(item[0][1:])))

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restores every v."""
        for group, v in zip(self.groups, self.v, strict=True):
            for place, i in enumerate(group):
                saved = memory_order(self.weights[i], state[f"v{i}"])
                v[place, : len(saved)].copy_(saved)
