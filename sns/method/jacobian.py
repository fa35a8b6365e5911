"""Jacobian regularisation (section 3.3; Hoffman et al. 2019, arXiv 1908.02729).

It adds lambda / 2 * mean over examples of |d y / d x|_F^2 to the risk. y is the network's output
before the loss. Random projections estimate the norm (their Algorithm 1).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sns.common.errors import ConfigError
from sns.config.schema import require
from sns.method.base import Risk, Sums, register
from sns.method.term import TermMethod


class Projections:
    """Estimates |d y / d x|_F^2 by products v^T (d y / d x), one backward pass each.

    For each example v is uniform on the sphere of radius sqrt(C), C its number of outputs, so that
    E[v v^T] = I and one draw is unbiased. Where examples interact, by batch norm in training mode,
    the estimated norm is that of all outputs with respect to all inputs of the pass.
    """

    def __init__(self, n_proj: int = 1, exact: bool = False, generator: torch.Generator | None = None) -> None:
        """`exact`: C passes with the basis vectors, of random signs. The result has no variance
        unless examples interact. `generator`: on the outputs' device; None: torch's default.
        ConfigError if `n_proj` is not positive.
        """
        require(n_proj >= 1, f"n_proj={n_proj} must be at least 1")
        self.n_proj, self.exact, self.generator = n_proj, exact, generator

    def squared_norm(self, outputs: Tensor, inputs: Tensor) -> Tensor | None:
        """The estimate divided by N, (), for autograd; outputs (N, ...) depend on inputs.

        None if there is no path from one to the other.
        """
        squares = []
        for v in self._directions(outputs):
            (product,) = torch.autograd.grad(outputs, inputs, v, create_graph=True, allow_unused=True)
            if product is None:
                return None
            squares.append(product.float().square().sum() if product.dtype.itemsize < 4 else product.square().sum())
        total = torch.stack(squares).sum()
        return total / len(outputs) if self.exact else total / (self.n_proj * len(outputs))

    def _directions(self, outputs: Tensor) -> Iterator[Tensor]:
        examples, count = len(outputs), outputs[0].numel()
        kind: Any = {"device": outputs.device, "dtype": torch.promote_types(outputs.dtype, torch.float32)}
        for place in range(count if self.exact else self.n_proj):
            if self.exact:
                v = torch.zeros(examples, count, **kind)
                v[:, place] = torch.randn(examples, generator=self.generator, **kind).sign()
            else:
                v = torch.randn(examples, count, generator=self.generator, **kind)
                v *= count**0.5 / torch.linalg.vector_norm(v, dim=1, keepdim=True)
            yield v.view(outputs.shape).to(outputs.dtype)


class JacobianPenalty:
    """factor / 2 * mean |d y / d x|_F^2, for any training loop.

    x.requires_grad_(); y = model(x); (criterion(y, target) + penalty(y, x)).backward()
    """

    def __init__(self, factor: float = 0.01, **projections: Any) -> None:
        """`projections`: the arguments of `Projections`. ConfigError for a negative factor."""
        require(factor >= 0, f"factor={factor} must not be negative")
        self.factor, self.projections = factor, Projections(**projections)

    def __call__(self, outputs: Tensor, inputs: Tensor) -> Tensor:
        """The penalty, (); inputs (N, ...) require a gradient. ConfigError if nothing depends on
        them."""
        norm = self.projections.squared_norm(outputs, inputs)
        if norm is None:
            raise ConfigError("the outputs do not depend on the inputs: there is no Jacobian")
        return 0.5 * self.factor * norm


@dataclass
class JacobianOptions:
    """The authors' lambda is 0.01, with one projection."""

    strength: ClassVar[str] = "factor"

    name: str = "jacobian"
    factor: float = 0.01  # lambda
    n_proj: int = 1  # random directions for each example and update
    exact: bool = False  # all basis vectors instead: as many backward passes as outputs

    def __post_init__(self) -> None:
        require(self.factor >= 0, f"method.factor={self.factor} must not be negative")
        require(self.n_proj >= 1, f"method.n_proj={self.n_proj} must be at least 1")


class ProjectingMethod(TermMethod):
    """A method whose term draws random projections."""

    def __init__(self, options: Any, model: nn.Module, generator: torch.Generator) -> None:
        super().__init__(options, model, generator)
        self.term_passes = 2.0 * options.n_proj  # as measured; more if exact
        self.projections = {"n_proj": options.n_proj, "exact": options.exact, "generator": self.draws}


@register("jacobian")
class Jacobian(ProjectingMethod):
    """Minimises the risk + lambda / 2 * mean |d y / d x|_F^2, with the pass's dropout masks."""

    Config = JacobianOptions

    def __init__(self, options: JacobianOptions, model: nn.Module, generator: torch.Generator) -> None:
        super().__init__(options, model, generator)
        self.penalty = JacobianPenalty(options.factor, **self.projections)

    def backward(self, risk: Risk, x: Tensor, share: float) -> Sums:
        """The gradient of the risk and of the penalty, from one forward pass."""
        require(x.is_floating_point(), "method=jacobian needs real-valued inputs, and those are whole numbers")
        x = x.detach().requires_grad_()
        return risk(x, share, lambda outputs: self.note(self.penalty(outputs, x), share))
