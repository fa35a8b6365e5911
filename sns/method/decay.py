"""Weight decay (section 3.3, equation 2): adds lambda / 2 * sum_l |W_l|_F^2 to the risk."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sns.config.schema import later, require
from sns.linalg.weights import weight_parameters
from sns.method.base import Method, register

SCOPES = ("all", "weights")


@dataclass
class DecayOptions:
    """The paper's lambda is 1e-4."""

    name: str = "decay"
    factor: float = 1e-4  # lambda, before `scale`
    scope: str = "all"  # all: every parameter, as Chainer's hook | weights: weight matrices only, as equation 2
    scale: float = later(1.0)  # lambda is factor * scale: a setting matches the paper's dose by it

    def __post_init__(self) -> None:
        require(self.factor >= 0, f"method.factor={self.factor} must not be negative")
        require(self.scale >= 0, f"method.scale={self.scale} must not be negative")
        require(self.scope in SCOPES, f"method.scope={self.scope} is unknown; choose one of {', '.join(SCOPES)}")


@register("decay")
class Decay(Method):
    """Coupled weight decay: adds lambda * W to the gradient, before momentum."""

    Config = DecayOptions

    def __init__(self, options: DecayOptions, model: nn.Module, generator: torch.Generator) -> None:
        super().__init__(options, model, generator)
        self.factor: float = options.factor * options.scale
        self.parameters = list(model.parameters()) if options.scope == "all" else weight_parameters(model)

    @torch.no_grad()
    def regularize(self) -> Tensor:
        """lambda / 2 * sum of squares, ()."""
        values = [p.detach() for p in self.parameters]
        torch._foreach_add_([p.grad for p in self.parameters if p.grad is not None], values, alpha=self.factor)
        norms = torch.stack(torch._foreach_norm(values))
        penalty: Tensor = 0.5 * self.factor * norms.square().sum()
        return penalty
