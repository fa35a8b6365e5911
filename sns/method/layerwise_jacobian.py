"""Layer-wise Jacobian regularisation (section 3.3; Gu & Rigazio 2014, arXiv 1412.5068).

It adds lambda / 2 * mean over examples of sum_l |d x^l / d x^(l-1)|_F^2 to the risk. x^(l-1) is the
input of the l-th weight layer in the order of the forward pass; the last x^L are the network's
outputs. So a layer is a linear map with all that follows it up to the next one: batch norm,
activation, dropout, pooling.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sns.common.errors import ConfigError
from sns.config.schema import require
from sns.linalg.weights import weights_of
from sns.method.base import Risk, Sums, register
from sns.method.jacobian import JacobianOptions, ProjectingMethod, Projections


class LayerwiseJacobianPenalty:
    """factor / 2 * mean over examples of sum_l |d x^l / d x^(l-1)|_F^2, for any training loop.

    with penalty.recording(): y = model(x)
    (criterion(y, target) + penalty(y)).backward()
    """

    def __init__(self, model: nn.Module, factor: float = 1e-5, **projections: Any) -> None:
        """`projections`: the arguments of `Projections`. ConfigError without weight layers."""
        require(factor >= 0, f"factor={factor} must not be negative")
        self.layers = {weight.module: weight.name.rpartition(".")[0] for weight in weights_of(model)}
        require(bool(self.layers), "the layer-wise Jacobian needs weight layers, and this network has none")
        self.factor, self.projections = factor, Projections(**projections)
        self.inputs: list[tuple[str, Tensor]] = []  # of each weight layer, from `recording` to the call

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Inside, a forward pass of the model records the inputs of its weight layers."""
        self.inputs = []
        handles = [layer.register_forward_pre_hook(partial(self._record, name)) for layer, name in self.layers.items()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _record(self, name: str, _: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x, *others = inputs
        x = x if x.requires_grad else x.detach().requires_grad_()
        self.inputs.append((name, x))
        return (x, *others)

    def __call__(self, outputs: Tensor) -> Tensor:
        """The penalty, (), for the recorded pass that gave `outputs` (N, ...).

        ConfigError where the layers are no chain: a layer does not depend on the one before it.
        """
        inputs, self.inputs = self.inputs, []
        following = [*inputs[1:], ("output", outputs)]
        norms = []
        for (name, x), (next_name, y) in zip(inputs, following, strict=True):
            norm = self.projections.squared_norm(y, x)
            if norm is None:
                raise ConfigError(f"layer-wise Jacobians need a chain of layers: {next_name} does not follow {name}")
            norms.append(norm * (len(y) / len(outputs)))
        return 0.5 * self.factor * torch.stack(norms).sum()


@dataclass
class LayerwiseJacobianOptions(JacobianOptions):
    """The paper states no strength. The norms of feature maps are large, hence a small lambda."""

    name: str = "layerwise_jacobian"
    factor: float = 1e-5  # lambda


@register("layerwise_jacobian")
class LayerwiseJacobian(ProjectingMethod):
    """Minimises the risk + lambda / 2 * mean of sum_l |d x^l / d x^(l-1)|_F^2."""

    Config = LayerwiseJacobianOptions

    def __init__(self, options: LayerwiseJacobianOptions, model: nn.Module, generator: torch.Generator) -> None:
        super().__init__(options, model, generator)
        self.penalty = LayerwiseJacobianPenalty(model, options.factor, **self.projections)

    def backward(self, risk: Risk, x: Tensor, share: float) -> Sums:
        """The gradient of the risk and of the penalty, from one forward pass."""
        with self.penalty.recording():
            return risk(x, share, lambda outputs: self.note(self.penalty(outputs), share))
