"""Penalties on weights for any model and any training loop, and the methods made of them.

penalty = SpectralNormPenalty(model, factor=0.01)
loss.backward(); penalty.add_gradient_(); optimizer.step()    # or: loss = loss + penalty()
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sns.common import accelerator
from sns.common.precision import full_precision
from sns.common.seed import generator as seeded
from sns.config.schema import require
from sns.linalg.leading import Leading, LeadingImages, LeadingVectors
from sns.linalg.weights import Weight
from sns.method.base import Method, Risk, Sums, trained_weights
from sns.model.sizes import input_sizes


class WeightPenalty(ABC):
    """A penalty on the weight matrices of `model`, which stays an ordinary module.

    Frozen weights are left out. `model` may be wrapped by DistributedDataParallel or compiled:
    every process holds the same penalty.
    """

    def __init__(self, model: nn.Module, factor: float, *, name: str | None = None, **which: bool) -> None:
        """`name`: of the penalty in messages; None: its class. `which`: embeddings and heads, as in
        `weights_of`. ConfigError if nothing is left."""
        require(factor >= 0, f"factor={factor} must not be negative")
        self.model, self.factor = model, factor
        self.name = name or type(self).__name__
        self.weights: list[Weight] = trained_weights(self.name, model, **which)

    @abstractmethod
    def __call__(self) -> Tensor:
        """The penalty, (), as a function of the weights: to be added to a loss."""

    @abstractmethod
    def add_gradient_(self) -> Tensor:
        """Adds the penalty's gradient to every `.grad`. Returns the penalty, ().

        The same as `penalty().backward()`, and faster.
        """

    def state_dict(self) -> dict[str, Tensor]:
        """The tensors that persist from call to call."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restores what `state_dict` gave. ValueError for tensors that it has no place for."""
        if state:
            raise ValueError(f"{self.name} has no place for {', '.join(state)}")


class SigmaPenalty(WeightPenalty):
    """factor / 2 * sum_l f(sigma_l), with sigma_l from power iterations that persist.

    Subclasses define `value`, f, and `slope`, f'/2. u and v are treated as constants, so that the
    gradient is factor * f'(sigma) / 2 * u v^T. In evaluation mode v stays as it is.
    """

    def __init__(
        self,
        model: nn.Module,
        factor: float,
        *,
        n_iterations: int = 1,
        operator: bool = False,
        input_shape: tuple[int, ...] | None = None,
        generator: torch.Generator | None = None,
        name: str | None = None,
        **which: bool,
    ) -> None:
        """`operator`: penalise each layer's norm as a map of images, for which `input_shape`, (C,
        H, W) of the model's inputs, must be known. `generator`: of the first v; None: a fixed
        seed. ConfigError for options out of range and for layers that cannot be treated.
        """
        super().__init__(model, factor, name=name, **which)
        require(n_iterations >= 1, f"n_iterations={n_iterations} must be at least 1")
        self.n_iterations = n_iterations
        generator = seeded(0, "power_iteration") if generator is None else generator
        self.vectors: LeadingVectors | LeadingImages
        if operator:
            self.vectors = LeadingImages(self.name, self.weights, generator)
            if input_shape is not None:
                self.begin(input_shape)
        else:
            self.vectors = LeadingVectors(self.weights, generator)
        self.device = accelerator.of(self.weights[0].tensor.device)
        self.stream = self.device.stream()
        self.iterated: list[Leading] = []  # from `iterate_beside` to `add_gradient_`

    def begin(self, input_shape: tuple[int, ...]) -> None:
        """Draws the first images v of an operator's penalty, for inputs (C, H, W)."""
        assert isinstance(self.vectors, LeadingImages)
        if not self.vectors.v:
            self.vectors.begin(input_sizes(self.model, input_shape))

    @staticmethod
    @abstractmethod
    def value(sigma: Tensor) -> Tensor:
        """f, elementwise."""

    @staticmethod
    @abstractmethod
    def slope(sigma: Tensor) -> Tensor:
        """Half the derivative of f, elementwise."""

    def __call__(self) -> Tensor:
        self.vectors.follow()
        leading = self._iterate()
        with full_precision(leading[0].sigma.device):
            sigmas = [part.live() for part in leading]
            values = [part.of_norms(self.value(sigma)).sum() for part, sigma in zip(leading, sigmas, strict=True)]
            return 0.5 * self.factor * torch.stack(values).sum()

    def add_gradient_(self) -> Tensor:
        self.vectors.follow()
        return self.regularize()

    @torch.no_grad()
    def regularize(self) -> Tensor:
        """`add_gradient_` for a model that has not moved since: nothing waits for the device."""
        if self.iterated:
            self.device.join(self.stream)
        leading, self.iterated = self.iterated or self._iterate(), []
        with full_precision(leading[0].sigma.device):
            for part in leading:
                part.add_gradient(part.of_norms(self.factor * self.slope(part.sigma)))
        values = torch.stack([part.of_norms(self.value(part.sigma)).sum() for part in leading])
        penalty: Tensor = 0.5 * self.factor * values.sum()
        return penalty

    def iterate_beside(self) -> None:
        """Starts the iteration of the next `regularize` on a stream of its own, where there are
        streams: it needs the weights only."""
        if self.stream is not None and not self.iterated:
            with self.device.beside(self.stream):
                self.iterated = self._iterate()

    def _iterate(self) -> list[Leading]:
        moving = self.model.training
        require(bool(self.vectors.v), f"{self.name} of operators needs input_shape=(C, H, W), the model's inputs")
        return self.vectors.iterate(self.n_iterations, moving)

    def state_dict(self) -> dict[str, Tensor]:
        """v of every weight matrix, independent of device and memory format."""
        return self.vectors.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.vectors.follow()
        self.vectors.load_state_dict(state)


class PenaltyMethod(Method):
    """A method that adds a `SigmaPenalty` to the risk. A subclass sets `Penalty`."""

    Penalty: ClassVar[type[SigmaPenalty]]
    operator: ClassVar[bool] = False

    def __init__(self, options: Any, model: nn.Module, generator: torch.Generator) -> None:
        super().__init__(options, model, generator)
        self.factor: float = options.factor * options.scale
        self.penalty = self.Penalty(
            model,
            self.factor,
            n_iterations=options.n_iterations,
            operator=self.operator,
            generator=generator,
            name=f"method={options.name}",
        )

    def backward(self, risk: Risk, x: Tensor, share: float) -> Sums:
        """The gradient of the risk. With streams the first pass also starts the iteration."""
        if self.operator:
            require(
                x.dim() == 4, f"method={self.options.name} needs images (N, C, H, W) as inputs; use method=spectral"
            )
            self.penalty.begin(tuple(x.shape[1:]))
        self.penalty.iterate_beside()
        return super().backward(risk, x, share)

    def regularize(self) -> Tensor:
        """The penalty, ()."""
        return self.penalty.regularize()

    def state_dict(self) -> dict[str, Tensor]:
        """The state of the penalty."""
        return self.penalty.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restores it."""
        self.penalty.load_state_dict(state)
