"""How strong a penalty is: options for lambda or a dose, and a lambda that follows a target."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sns.config.schema import MISSING, later, require
from sns.linalg.power_iteration import TINY


@dataclass
class Strength:
    """Options of a penalty: lambda = factor * scale, or the lambda that gives a dose.

    The dose is the number of e-folds by which the penalty alone would shrink what it penalises. A
    subclass sets `published`.
    """

    strength: ClassVar[str] = "factor"
    published: ClassVar[float]  # lambda where neither factor nor dose is given

    name: str = MISSING
    factor: float | None = None  # lambda, before `scale`; None: the published one, or that of `dose`
    scale: float = later(1.0)  # lambda is factor * scale: a setting matches the paper's dose by it
    dose: float | None = later(None)  # in place of factor and scale: lambda follows from schedule and optimizer

    def __post_init__(self) -> None:
        factor, dose = self.factor, self.dose
        require(factor is None or factor >= 0, f"method.factor={factor} must not be negative")
        require(self.scale >= 0, f"method.scale={self.scale} must not be negative")
        require(dose is None or dose >= 0, f"method.dose={dose} must not be negative")
        require(dose is None or factor is None, f"method.factor={factor} and method.dose={dose} exclude each other")
        if dose is not None:
            self.scale = 1.0  # not a setting's: the dose alone identifies the run. `parse` refuses a user's
        elif factor is None:
            self.factor = self.published


class TargetFactor:
    """A lambda that moves m, the geometric mean of the layers' sigmas, to a target:

    lambda <- lambda * (m / target)^GAIN * (m / m of the update before)^DAMPING,

    within the first lambda / RANGE and * RANGE; m before the first update is the target. It cannot
    raise sigmas: where they stay below the target by themselves, lambda falls to its least value.
    """

    GAIN = 0.05
    DAMPING = 8.0
    RANGE = 100.0

    def __init__(self, factor: float, target: float, like: Tensor) -> None:
        """`like`: a tensor of the device and type. ConfigError for values out of range."""
        require(target > 0, f"target_sigma={target} must be positive")
        require(factor > 0, f"factor={factor} must be positive with target_sigma, which multiplies it")
        self.log_target = math.log(target)
        self.bounds = factor / self.RANGE, factor * self.RANGE
        self.value = like.new_full((), factor)  # (), lambda of the last update
        self.log_mean = like.new_full((), self.log_target)  # (), log m of the last update

    def follow(self, sigmas: Sequence[Tensor]) -> None:
        """One step of lambda, from the sigma of every layer. Nothing waits for the device."""
        log_mean = torch.cat(list(sigmas)).clamp_min(TINY).log().mean().to(self.value)
        error, change = log_mean - self.log_target, log_mean - self.log_mean
        self.value.mul_(torch.exp(self.GAIN * error + self.DAMPING * change)).clamp_(*self.bounds)
        self.log_mean.copy_(log_mean)

    def to(self, like: Tensor) -> None:
        """Moves to the device and type of `like`."""
        self.value, self.log_mean = self.value.to(like), self.log_mean.to(like)

    def state_dict(self) -> dict[str, Tensor]:
        """Both tensors."""
        return {"factor": self.value.clone(), "log_mean": self.log_mean.clone()}

    def take(self, state: dict[str, Tensor]) -> None:
        """Restores what `state_dict` gave, and removes it from `state`."""
        self.value.copy_(state.pop("factor"))
        self.log_mean.copy_(state.pop("log_mean"))
