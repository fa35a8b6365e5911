"""Batch norm (Ioffe & Szegedy 2015) and layer norm (Ba et al. 2016) after the layers of a network.

They act on the outputs of every layer but the first and the last, without the multiplier gamma, as
in the discriminators of Miyato et al. 2018, whose reason is the Lipschitz constant.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from sns.config.schema import require
from sns.method.base import Method, register, trained_weights


@dataclass
class BatchNormOptions:
    """No options."""

    name: str = "batch_norm"


@dataclass
class LayerNormOptions:
    """No options."""

    name: str = "layer_norm"


class ActivationNorm(Method):
    """Minimises the risk of the network with normalised outputs of its inner layers."""

    def prepare(self) -> None:
        """Gives every inner layer a module `norm`, which its outputs pass."""
        name = f"method={self.options.name}"
        weights = {id(weight.module): weight for weight in trained_weights(name, self.model)}
        for weight in list(weights.values())[1:-1]:
            layer = weight.module
            require(isinstance(layer, nn.Linear | nn.Conv2d), f"{name} knows linear layers and convolutions in 2-D")
            norm = self.norm(layer).to(weight.tensor)
            norm.weight.requires_grad_(False)
            layer.add_module("norm", norm)
            layer.register_forward_hook(_normalized)

    @abstractmethod
    def norm(self, layer: Any) -> nn.Module:
        """The normalization of the outputs of a linear layer or a convolution."""


def _normalized(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    out: Tensor = layer.norm(output)  # type: ignore[operator]
    return out


@register("batch_norm")
class BatchNorm(ActivationNorm):
    """Each channel by its mean and variance over the images of a pass."""

    Config = BatchNormOptions

    def norm(self, layer: Any) -> nn.Module:
        if isinstance(layer, nn.Linear):
            return nn.BatchNorm1d(layer.out_features)
        return nn.BatchNorm2d(layer.out_channels)


@register("layer_norm")
class LayerNorm(ActivationNorm):
    """Each image by the mean and variance of all its channels and pixels; a bias a channel."""

    Config = LayerNormOptions

    def norm(self, layer: Any) -> nn.Module:
        return nn.GroupNorm(1, layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels)
