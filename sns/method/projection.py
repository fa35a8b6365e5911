"""Changes of the weights after each step of the optimizer, for any model and any training loop, and
the methods made of them.

projection = SpectralHardCap(model, limit=1.0)
loss.backward(); optimizer.step(); projection.apply_(lr)    # lr: a number, or a tensor ()
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sns.common.seed import generator as seeded
from sns.config.schema import require
from sns.linalg.leading import Leading, LeadingImages, LeadingVectors
from sns.linalg.weights import Weight
from sns.method.base import Method, trained_weights

START = 50  # iterations before training, so that the first projection has nearly the right vectors


def require_positive(where: str = "", **values: float | None) -> None:
    """ConfigError for a value that is neither positive nor None; `where` precedes its name."""
    for name, value in values.items():
        require(value is None or value > 0, f"{where}{name}={value} must be positive")


class WeightProjection(ABC):
    """A change of the weight matrices of `model` after each step; it stays an ordinary module.

    Frozen weights are left out, and weights that several layers share are changed once. `model` may
    be wrapped by DistributedDataParallel or compiled: every process makes the same change.
    """

    def __init__(self, model: nn.Module, *, name: str | None = None, **which: bool) -> None:
        """`name`: of the projection in messages; None: its class. `which`: embeddings and heads, as
        in `weights_of`. ConfigError if nothing is left, or if a weight is parametrised."""
        self.model, self.name = model, name or type(self).__name__
        self.weights: list[Weight] = trained_weights(self.name, model, **which)
        for weight in self.weights:
            weight.changeable()  # an error at the start, not at the first step

    @abstractmethod
    def apply_(self, lr: float | Tensor) -> None:
        """Changes every weight in place. `lr`: the learning rate of the step just made.

        Shapes are static and nothing waits for the device.
        """

    def state_dict(self) -> dict[str, Tensor]:
        """The tensors that persist from call to call."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restores what `state_dict` gave. ValueError for tensors that it has no place for."""
        if state:
            raise ValueError(f"{self.name} has no place for {', '.join(state)}")


class LeadingProjection(WeightProjection):
    """A function of sigma_1, u_1 and v_1 of every weight, from power iterations that persist.

    Each block of a block-diagonal weight is changed like a weight of its own. A subclass defines
    `change`.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        n_iterations: int = 1,
        generator: torch.Generator | None = None,
        name: str | None = None,
        **which: bool,
    ) -> None:
        """`generator`: of the first v; None: a fixed seed. ConfigError also if n_iterations < 1."""
        super().__init__(model, name=name, **which)
        require(n_iterations >= 1, f"n_iterations={n_iterations} must be at least 1")
        self.n_iterations = n_iterations
        self.generator = seeded(0, "power_iteration") if generator is None else generator
        self.vectors: dict[str, LeadingVectors | LeadingImages] = self.kinds()
        for vectors in self.vectors.values():
            if isinstance(vectors, LeadingVectors):
                vectors.iterate(START)

    def kinds(self) -> dict[str, LeadingVectors | LeadingImages]:
        """The vectors of every kind of weight that `change` tells apart; all are of one kind."""
        return {"weights": LeadingVectors(self.weights, self.generator)}

    @abstractmethod
    def change(self, kind: str, leading: Leading, lr: float | Tensor) -> None:
        """Changes the weights of `leading`, which are of `kind`."""

    @torch.no_grad()
    def apply_(self, lr: float | Tensor) -> None:
        for kind, vectors in self.vectors.items():
            vectors.follow()
            for leading in vectors.iterate(self.n_iterations):
                self.change(kind, leading, lr)

    def state_dict(self) -> dict[str, Tensor]:
        """v of every weight matrix, independent of device and memory format."""
        return {f"{kind}.{key}": v for kind, part in self.vectors.items() for key, v in part.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        for kind, vectors in self.vectors.items():
            vectors.follow()
            own = {key.removeprefix(f"{kind}."): v for key, v in state.items() if key.startswith(f"{kind}.")}
            vectors.load_state_dict(own)


class ProjectionMethod(Method):
    """A method whose `project` hook applies a `WeightProjection`. Subclasses set `projection`."""

    projection: WeightProjection
    Config: ClassVar[type]

    def project(self) -> None:
        """Changes the weights after the optimizer's step."""
        self.projection.apply_(self.rate)

    def state_dict(self) -> dict[str, Any]:
        """The state of the projection."""
        return self.projection.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restores it."""
        self.projection.load_state_dict(state)
