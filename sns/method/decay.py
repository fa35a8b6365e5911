"""Weight decay (section 3.3, equation 2): adds lambda / 2 * sum_l |W_l|_F^2 to the risk."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from sns.config.schema import require
from sns.method.base import Method, register, trained_weights
from sns.method.strength import Strength

SCOPES = ("all", "weights")


@dataclass
class DecayOptions(Strength):
    """The paper's lambda is 1e-4."""

    published: ClassVar[float] = 1e-4

    name: str = "decay"
    scope: str = "all"  # all: every parameter, as Chainer's hook | weights: weight matrices only, as equation 2

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.scope in SCOPES, f"method.scope={self.scope} is unknown; choose one of {', '.join(SCOPES)}")


@register("decay")
class Decay(Method):
    """Coupled weight decay: adds lambda * W to the gradient, before momentum."""

    Config = DecayOptions

    def __init__(self, options: DecayOptions, model: nn.Module, generator: torch.Generator) -> None:
        super().__init__(options, model, generator)
        assert options.factor is not None, f"`at_dose` replaces {options.dose} by it"
        self.factor: float = options.factor * options.scale
        weights = trained_weights("method=decay", model) if options.scope == "weights" else []
        held = (weight.parameter for weight in weights) if weights else model.parameters()
        self.parameters = list(dict.fromkeys(p for p in held if p is not None and p.requires_grad))
        self.parametrised = [weight for weight in weights if weight.parameter is None]

    @torch.no_grad()
    def regularize(self) -> Tensor:
        """lambda / 2 * sum of squares, ()."""
        for parameter in self.parameters:
            if parameter.grad is None:  # it took no part in the loss
                parameter.grad = torch.zeros_like(parameter)
        values = [p.detach() for p in self.parameters]
        torch._foreach_add_([p.grad for p in self.parameters if p.grad is not None], values, alpha=self.factor)
        for weight in self.parametrised:
            values.append(weight.tensor.detach())
            weight.add_gradient(self.factor * values[-1])
        norms = torch.stack(torch._foreach_norm(values))
        penalty: Tensor = 0.5 * self.factor * norms.square().sum()
        return penalty
