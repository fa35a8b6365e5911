"""SGD with heavy-ball momentum: `nesterov` without Nesterov's step."""

from dataclasses import dataclass

from sns.optim.base import register
from sns.optim.nesterov import NesterovOptions, NesterovSGD


@dataclass
class SGDOptions(NesterovOptions):
    """`optim.momentum=0` is plain SGD."""

    name: str = "sgd"
    nesterov: bool = False


@register("sgd")
class SGD(NesterovSGD):
    """b <- m b + g, then w <- w - lr b."""

    Config = SGDOptions
