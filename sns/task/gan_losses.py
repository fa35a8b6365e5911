"""Losses of a GAN, from the outputs of the discriminator D on real and generated images."""

from collections.abc import Callable
from typing import Final

from torch import Tensor
from torch.nn.functional import relu, softplus

LOSSES: Final = ("logistic", "hinge", "wasserstein")

# The mean loss of D, (), from its outputs on real and on generated images, each (N, 1).
DISCRIMINATOR: Final[dict[str, Callable[[Tensor, Tensor], Tensor]]] = {
    # Goodfellow et al. 2014, as in equation 1 of Miyato et al. 2018; D's output is a logit
    "logistic": lambda real, fake: softplus(-real).mean() + softplus(fake).mean(),
    "hinge": lambda real, fake: relu(1.0 - real).mean() + relu(1.0 + fake).mean(),  # their equation 16
    "wasserstein": lambda real, fake: fake.mean() - real.mean(),  # Arjovsky et al. 2017
}

# The mean loss of the generator, (), from D's outputs on its images, (N, 1).
GENERATOR: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "logistic": lambda fake: softplus(-fake).mean(),  # non-saturating: -log D(G(z))
    "hinge": lambda fake: -fake.mean(),  # their equation 17
    "wasserstein": lambda fake: -fake.mean(),
}
