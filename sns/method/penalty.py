"""Penalties on weights for any model and any training loop, and the methods made of them.

penalty = SpectralNormPenalty(model, factor=0.01)
loss.backward(); penalty.add_gradient_(); optimizer.step()    # or: loss = loss + penalty()
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
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
from sns.method.strength import TargetFactor
from sns.model.sizes import input_sizes
from sns.record.schema import Column

FACTOR = Column("factor", "", "lambda of a method that adapts it")


class WeightPenalty(ABC):
    """A penalty on the weight matrices of `model`, which stays an ordinary module.

    Frozen weights are left out. `model` may be wrapped by DistributedDataParallel or compiled:
    every process holds the same penalty.
    """

    target: TargetFactor | None = None  # replaces factor
    fresh: torch.Generator | None = None  # of the device, that calls draw from

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

    def regularize(self) -> Tensor:
        """`add_gradient_` for a model that has not moved since: nothing waits for the device."""
        return self.add_gradient_()

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
    gradient is factor * f'(sigma) / 2 * u v^T. In evaluation mode v and target stay as they are.
    """

    def __init__(
        self,
        model: nn.Module,
        factor: float,
        *,
        n_iterations: int = 1,
        fresh: bool = False,
        target_sigma: float | None = None,
        operator: bool = False,
        input_shape: tuple[int, ...] | None = None,
        generator: torch.Generator | None = None,
        name: str | None = None,
        **which: bool,
    ) -> None:
        """`fresh`: every call starts from a new random v. `target_sigma`: each call changes lambda,
        from factor on, see `TargetFactor`. `operator`: penalise each layer's norm as a map of
        images, for which `input_shape`, (C, H, W) of the model's inputs, must be known.
        `generator`, on the CPU: of the first v; None: a fixed seed. ConfigError for options out of
        range and for layers that cannot be treated.
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
        first = self.weights[0].matrices()
        self.target = None if target_sigma is None else TargetFactor(factor, target_sigma, first)
        if fresh:
            seed = int(torch.randint(2**62, (), generator=generator))
            self.fresh = torch.Generator(first.device).manual_seed(seed)
        self.device = accelerator.of(first.device)
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
        self._follow()
        leading = self._iterate()
        factor = self._adapted(leading)
        with full_precision(leading[0].sigma.device):
            sigmas = [part.live() for part in leading]
            values = [part.of_norms(self.value(sigma)).sum() for part, sigma in zip(leading, sigmas, strict=True)]
            return 0.5 * factor * torch.stack(values).sum()

    def add_gradient_(self) -> Tensor:
        self._follow()
        return self.regularize()

    def _follow(self) -> None:
        """Moves what persists to the model's present device and type."""
        self.vectors.follow()
        weight = self.weights[0].matrices()
        if self.target is not None:
            self.target.to(weight)
        if self.fresh is not None and self.fresh.device != weight.device:
            self.fresh = torch.Generator(weight.device).manual_seed(self.fresh.initial_seed())

    def _adapted(self, leading: list[Leading]) -> float | Tensor:
        """lambda of this call."""
        if self.target is None:
            return self.factor
        if self.model.training:
            self.target.follow([part.norms() for part in leading])
        return self.target.value.clone()  # a loss may outlive the next call, which changes it

    @torch.no_grad()
    def regularize(self) -> Tensor:
        if self.iterated:
            self.device.join(self.stream)
        leading, self.iterated = self.iterated or self._iterate(), []
        factor = self._adapted(leading)
        with full_precision(leading[0].sigma.device):
            for part in leading:
                part.add_gradient(part.of_norms(factor * self.slope(part.sigma)))
        values = torch.stack([part.of_norms(self.value(part.sigma)).sum() for part in leading])
        penalty: Tensor = 0.5 * factor * values.sum()
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
        return self.vectors.iterate(self.n_iterations, moving, self.fresh if moving else None)

    def state_dict(self) -> dict[str, Tensor]:
        """v of every weight matrix, independent of device and memory format; that of the target;
        with fresh that of its generator, which is of one type of device."""
        state = self.vectors.state_dict()
        if self.target is not None:
            state |= self.target.state_dict()
        if self.fresh is not None:
            state["generator"] = self.fresh.get_state()
        return state

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: a stream belongs to one process."""
        return self.__dict__ | {"stream": None, "iterated": []}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restores a state. ValueError for that of another model or of other options."""
        given, own = ({name for name in names if not name[1:].isdigit()} for names in (state, self.state_dict()))
        if given != own:
            raise ValueError(f"the saved state is of other options than this {self.name}")
        self._follow()
        vectors = dict(state)
        if self.target is not None:
            self.target.take(vectors)
        if self.fresh is not None:
            self.fresh.set_state(vectors.pop("generator").cpu())
        self.vectors.load_state_dict(vectors)


class PenaltyMethod(Method):
    """A method that adds a penalty to the risk. A subclass sets `Penalty`."""

    Penalty: ClassVar[type[SigmaPenalty]]
    operator: ClassVar[bool] = False

    def __init__(self, options: Any, model: nn.Module, generator: torch.Generator) -> None:
        super().__init__(options, model, generator)
        factor: float = options.factor * options.scale
        self.factor = factor
        self.penalty = self.make(factor, generator)
        self.target, fresh = self.penalty.target, self.penalty.fresh
        self.generators = [] if fresh is None else [fresh]
        if self.target is not None:  # sums over the updates of lambda * learning rate, and of the rates
            self.spent = torch.zeros(2, dtype=torch.float64, device=self.rate.device)

    def make(self, factor: float, generator: torch.Generator) -> WeightPenalty:
        """The penalty, from `options`."""
        return self.Penalty(self.model, factor, **self.arguments(generator))

    def arguments(self, generator: torch.Generator) -> dict[str, Any]:
        """What `Penalty` takes beside the model and lambda."""
        return {
            "n_iterations": self.options.n_iterations,
            "operator": self.operator,
            "generator": generator,
            "name": f"method={self.options.name}",
        }

    @classmethod
    def columns(cls, options: Any) -> Sequence[Column]:
        """lambda, where it changes."""
        return (FACTOR,) if getattr(options, "target_sigma", None) is not None else ()

    def measures(self) -> dict[str, float]:
        """Its present value."""
        return {} if self.target is None else {FACTOR.name: self.target.value.item()}

    def mean_factor(self) -> float | None:
        """lambda, weighted by the learning rate where it changes."""
        if self.target is None:
            return self.factor
        product, rates = self.spent.tolist()
        return product / rates if rates else None

    def backward(self, risk: Risk, x: Tensor, share: float) -> Sums:
        """The gradient of the risk. With streams the first pass also starts the iteration."""
        if isinstance(self.penalty, SigmaPenalty):
            if self.operator:
                images = f"method={self.options.name} needs images (N, C, H, W) as inputs; use method=spectral"
                require(x.dim() == 4, images)
                self.penalty.begin(tuple(x.shape[1:]))
            self.penalty.iterate_beside()
        return super().backward(risk, x, share)

    def regularize(self) -> Tensor:
        """The penalty, ()."""
        penalty = self.penalty.regularize()
        if self.target is not None:
            self.spent += self.rate * torch.stack([self.target.value.to(self.rate), torch.ones_like(self.rate)])
        return penalty

    def state_dict(self) -> dict[str, Tensor]:
        """The state of the penalty, and the sums of a lambda that changes."""
        state = self.penalty.state_dict()
        return state if self.target is None else state | {"spent": self.spent.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restores it."""
        state = dict(state)
        if self.target is not None:
            self.spent.copy_(state.pop("spent"))
        self.penalty.load_state_dict(state)
