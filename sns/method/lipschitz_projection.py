"""Lipschitz projection (LCC; Gouk et al. 2018, arXiv 1804.04368).

W <- W / max(1, sigma / c) after every step, with a c for each type of layer. The authors' code is
`arch/lipschitz.py` of henrygouk/keras-lipschitz-networks.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from sns.config.schema import require
from sns.linalg.leading import Leading, LeadingImages, LeadingVectors
from sns.method.base import Risk, Sums, register
from sns.method.projection import START, LeadingProjection, ProjectionMethod, require_positive
from sns.model.sizes import input_sizes


class LipschitzProjection(LeadingProjection):
    """Every layer becomes Lipschitz continuous with the constant of its type.

    Convolutions have the constant `conv`; linear layers, attention and recurrent layers have
    `linear`. In evaluation mode batch norm multiplies channel i by gamma_i / sqrt(var_i), with the
    running variance: where the largest of them is above `norm`, all gamma are divided alike. None
    leaves a type as it is. sigma comes from the power iteration, which is a lower bound.
    """

    def __init__(
        self,
        model: nn.Module,
        conv: float | None = 1.5,
        linear: float | None = 1.5,
        norm: float | None = None,
        *,
        operator: bool = False,
        input_shape: tuple[int, ...] | None = None,
        **options: Any,
    ) -> None:
        """`operator`: sigma of a convolution as a map of images, for which `input_shape`, (C, H, W)
        of the model's inputs, must be known. ConfigError for a constant that is not positive, batch
        norm without running statistics, a layer that is no such map, and as `LeadingProjection`.
        """
        require_positive(conv=conv, linear=linear, norm=norm)
        self.limits, self.norm, self.operator = {"conv": conv, "linear": linear}, norm, operator
        super().__init__(model, **options)
        layers = [layer for layer in model.modules() if norm is not None and isinstance(layer, _BatchNorm)]
        self.layers = [layer for layer in layers if layer.affine and layer.weight.requires_grad]
        tracked = all(layer.running_var is not None for layer in self.layers)
        require(tracked, f"{self.name} with norm={norm} needs running statistics in every batch norm; use norm=null")
        if input_shape is not None:
            self.begin(input_shape)

    def kinds(self) -> dict[str, LeadingVectors | LeadingImages]:
        kinds: dict[str, LeadingVectors | LeadingImages] = {}
        for kind, limit in self.limits.items():
            weights = [w for w in self.weights if isinstance(w.module, _ConvNd) == (kind == "conv")]
            if weights and limit is not None:
                images = self.operator and kind == "conv"  # a linear layer is its matrix
                make = LeadingImages(self.name, weights, self.generator) if images else None
                kinds[kind] = make or LeadingVectors(weights, self.generator)
        return kinds

    def begin(self, input_shape: tuple[int, ...]) -> None:
        """Draws the first images v of an operator's projection, for inputs (C, H, W)."""
        images = self.vectors.get("conv")
        if isinstance(images, LeadingImages) and not images.v:
            images.begin(input_sizes(self.model, input_shape))
            images.iterate(START)

    @torch.no_grad()
    def apply_(self, lr: float | Tensor) -> None:
        drawn = all(vectors.v for vectors in self.vectors.values())
        require(drawn, f"{self.name} of operators needs input_shape=(C, H, W), the model's inputs")
        super().apply_(lr)
        for layer in self.layers:
            assert layer.running_var is not None
            assert self.norm is not None
            gain = (layer.weight.abs() / (layer.running_var + layer.eps).sqrt()).amax()
            layer.weight.div_((gain / self.norm).clamp_min(1.0))

    def change(self, kind: str, leading: Leading, lr: float | Tensor) -> None:
        limit = self.limits[kind]
        assert limit is not None
        leading.scale(1 / (leading.sigma / limit).clamp_min(1.0))


@dataclass
class LipschitzOptions:
    """conv and linear are the authors' constants for VGG19 with batch norm on CIFAR-10, with
    operator=true and norm=8."""

    strength: ClassVar[str] = "multiple"

    name: str = "lipschitz_projection"
    conv: float | None = 1.5  # the largest norm of a convolution; null: not projected
    linear: float | None = 1.5  # of another weight
    norm: float | None = None  # of batch norm: the largest |gamma| / sqrt(running variance)
    multiple: float = 1.0  # multiplies the three
    n_iterations: int = 2  # power iterations a step; the authors make as many from a fresh vector
    operator: bool = False  # convolutions as maps of images, as published; false: their matrices of section 3.2

    def __post_init__(self) -> None:
        require_positive("method.", conv=self.conv, linear=self.linear, norm=self.norm)
        require_positive("method.", multiple=self.multiple, n_iterations=self.n_iterations)


@register("lipschitz_projection")
class Lipschitz(ProjectionMethod):
    """The Lipschitz projection after every step. Image sizes are those of the first batch."""

    Config = LipschitzOptions
    projection: LipschitzProjection

    def __init__(self, options: LipschitzOptions, model: nn.Module, generator: torch.Generator) -> None:
        super().__init__(options, model, generator)
        limits = (options.conv, options.linear, options.norm)
        self.projection = LipschitzProjection(
            model,
            *(None if limit is None else limit * options.multiple for limit in limits),
            operator=options.operator,
            n_iterations=options.n_iterations,
            generator=generator,
            name="method=lipschitz_projection",
        )

    def backward(self, risk: Risk, x: Tensor, share: float) -> Sums:
        """The gradient of the risk. The first pass also gives the sizes of the images."""
        if self.projection.operator:
            self.projection.begin(tuple(x.shape[1:]))
        return super().backward(risk, x, share)
