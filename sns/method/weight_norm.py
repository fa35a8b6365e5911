"""Weight normalization (Salimans & Kingma 2016, arXiv 1602.07868): W = g v / |v| for each output.

Here g is 1 and constant, as in Miyato et al. 2018: "without gamma".
"""

from dataclasses import dataclass

import torch
from torch.nn.utils import parametrizations

from sns.method.base import Method, register, trained_weights


@dataclass
class WeightNormOptions:
    """No options."""

    name: str = "weight_norm"


@register("weight_norm")
class WeightNorm(Method):
    """Minimises the risk of the network whose weights have rows of L2 norm 1."""

    Config = WeightNormOptions

    @torch.no_grad()
    def prepare(self) -> None:
        """Reparametrises every weight matrix by torch's weight_norm, whose g does not train."""
        for weight in trained_weights(f"method={self.options.name}", self.model):
            layer, name = weight.module, weight.attribute
            parametrizations.weight_norm(layer, name, dim=1 if weight.transposed else 0)
            size = layer.parametrizations[name].original0  # type: ignore[index, union-attr]
            size.fill_(1.0).requires_grad_(False)
