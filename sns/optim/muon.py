"""Muon (Jordan et al. 2024), torch's own, for weight matrices; AdamW for all other parameters."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sns.config.schema import require
from sns.linalg.weights import as_matrix
from sns.optim.adamw import AdamW, AdamWOptions
from sns.optim.base import OptimOptions, TorchOptimizer, register


@dataclass
class MuonOptions(OptimOptions):
    """`lr` and `momentum` are Muon's. AdamW updates biases and batch norm at lr * other_rate."""

    name: str = "muon"
    lr: float = 0.02
    momentum: float = 0.95
    weight_decay: float = 0.0  # decoupled, of the matrices
    other_rate: float = 0.15

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.momentum < 1, f"optim.momentum={self.momentum} must lie in [0, 1)")
        require(self.weight_decay >= 0, f"optim.weight_decay={self.weight_decay} must not be negative")
        require(self.other_rate > 0, f"optim.other_rate={self.other_rate} must be positive")


@register("muon")
class Muon(TorchOptimizer):
    """Orthogonalises the momentum of every weight, reshaped to a matrix as in section 3.2.

    A CUDA graph cannot capture it, since torch's step reads the learning rate on the host. The dose
    of a penalty is not defined.
    """

    Config = MuonOptions
    capturable = False

    def __init__(self, parameters: Iterable[nn.Parameter], options: MuonOptions) -> None:
        super().__init__(parameters, options)
        self.weights = [p for p in self.parameters if p.dim() > 1]
        require(bool(self.weights), "optim=muon needs weight matrices, and this network has none")
        self.matrices = [nn.Parameter(as_matrix(w.detach())) for w in self.weights]  # views of the weights
        self.inner = torch.optim.Muon(
            self.matrices, lr=0.0, momentum=options.momentum, weight_decay=options.weight_decay
        )
        others = [p for p in self.parameters if p.dim() <= 1]
        self.others = AdamW(others, AdamWOptions(weight_decay=0.0)) if others else None

    def set_rate(self, rate: float) -> None:
        """Sets `rate` for the matrices and `rate * other_rate` for the rest."""
        super().set_rate(rate)
        if self.others is not None:
            self.others.set_rate(rate * self.options.other_rate)

    def step(self) -> None:
        """One update of the matrices, then of the rest."""
        for weight, matrix in zip(self.weights, self.matrices, strict=True):
            matrix.grad = None if weight.grad is None else as_matrix(_like(weight.grad, weight))
        super().step()
        if self.others is not None:
            self.others.step()

    def state_dict(self) -> dict[str, Any]:
        """The state of the matrices and of the rest."""
        return super().state_dict() | {"others": {} if self.others is None else self.others.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state of the matrices and of the rest."""
        super().load_state_dict(state)
        if self.others is not None:
            self.others.load_state_dict(state["others"])


def _like(gradient: Tensor, weight: Tensor) -> Tensor:
    """The gradient in the memory layout of its weight, which orders the matrix columns."""
    return (
        gradient.contiguous(memory_format=torch.channels_last) if not weight.is_contiguous() else gradient.contiguous()
    )
