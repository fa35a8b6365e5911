"""The penalty as public code has it, where that differs from the paper's: `method.algorithm`.

| algorithm | penalty of a layer | repository and file: sns/linalg/published.py |
|---|---|---|
| printed | lambda/3 sigma^3 | ytsmiling/lmt |
| unsquared | lambda/2 sigma | msakarvadia/memorization |
| gouk | lambda sigma^2 | henrygouk/keras-lipschitz-networks |
| blog_1, blog_2 | lambda sigma^2, lambda sigma | a blog |

scripts/errata.py measures the difference of each; none is recommended.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sns.common.precision import full_precision
from sns.common.seed import generator as seeded
from sns.config.schema import require
from sns.linalg.power_iteration import random_unit_vectors
from sns.linalg.published import blog_1, blog_2, gouk
from sns.method.penalty import SigmaPenalty, WeightPenalty


class PrintedPenalty(SigmaPenalty):
    """factor / 3 * sum_l sigma(W_l)^3."""

    @staticmethod
    def value(sigma: Tensor) -> Tensor:
        """2/3 sigma^3."""
        return 2 / 3 * sigma**3

    @staticmethod
    def slope(sigma: Tensor) -> Tensor:
        """sigma^2."""
        return sigma.square()


class UnsquaredPenalty(SigmaPenalty):
    """factor / 2 * sum_l sigma(W_l)."""

    @staticmethod
    def value(sigma: Tensor) -> Tensor:
        """sigma."""
        return sigma

    @staticmethod
    def slope(sigma: Tensor) -> Tensor:
        """1/2."""
        return torch.full_like(sigma, 0.5)


class DifferentiatedPenalty(WeightPenalty):
    """factor * sum_l of a function of each kernel as it is stored, by automatic differentiation."""

    def __init__(
        self,
        model: nn.Module,
        factor: float,
        *,
        n_iterations: int = 1,
        generator: torch.Generator | None = None,
        name: str | None = None,
        **which: bool,
    ) -> None:
        """`generator`, on the CPU: of the starts, if they are random; None: a fixed seed."""
        super().__init__(model, factor, name=name, **which)
        require(n_iterations >= 1, f"n_iterations={n_iterations} must be at least 1")
        self.n_iterations = n_iterations
        self.generator = seeded(0, "power_iteration") if generator is None else generator

    @abstractmethod
    def of(self, kernel: Tensor, place: int) -> Tensor:
        """The function, (), of the kernel number `place`, in at least 32 bits."""

    def _value(self, tensor: Tensor, place: int) -> Tensor:
        return self.factor * self.of(tensor.float() if tensor.dtype.itemsize < 4 else tensor, place)

    def __call__(self) -> Tensor:
        with full_precision(self.weights[0].tensor.device):
            return torch.stack([self._value(weight.tensor, i) for i, weight in enumerate(self.weights)]).sum()

    def add_gradient_(self) -> Tensor:
        values = []
        with full_precision(self.weights[0].tensor.device), torch.enable_grad():
            for i, weight in enumerate(self.weights):
                tensor = weight.tensor.detach().requires_grad_()
                values.append(self._value(tensor, i))
                (gradient,) = torch.autograd.grad(values[-1], tensor)
                weight.add_gradient(gradient)
        return torch.stack(values).detach().sum()


class Blog1Penalty(DifferentiatedPenalty):
    """factor * sum_l `blog_1`."""

    def of(self, kernel: Tensor, place: int) -> Tensor:
        return blog_1(kernel, self.n_iterations)


class Blog2Penalty(DifferentiatedPenalty):
    """factor * sum_l `blog_2`."""

    def of(self, kernel: Tensor, place: int) -> Tensor:
        return blog_2(kernel, self.n_iterations)


class GoukPenalty(DifferentiatedPenalty):
    """factor * sum_l `gouk`, from a Gaussian vector for each layer, which persists as it is."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        drawn = random_unit_vectors([len(weight.tensor) for weight in self.weights], self.generator)
        self.starts = [x.to(weight.matrices()) for x, weight in zip(drawn, self.weights, strict=True)]

    def of(self, kernel: Tensor, place: int) -> Tensor:
        self.starts[place] = start = self.starts[place].to(kernel)
        return gouk(kernel, start, self.n_iterations)

    def state_dict(self) -> dict[str, Tensor]:
        """The starts."""
        return {f"v{i}": start.clone() for i, start in enumerate(self.starts)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        for i, start in enumerate(self.starts):
            start.copy_(state[f"v{i}"])


ALGORITHMS: dict[str, type[SigmaPenalty | DifferentiatedPenalty]] = {
    "printed": PrintedPenalty,
    "unsquared": UnsquaredPenalty,
    "gouk": GoukPenalty,
    "blog_1": Blog1Penalty,
    "blog_2": Blog2Penalty,
}
