"""Equation 1 with the norm of each layer as a linear map: adds lambda / 2 * sum_l |A_l|^2.

The paper penalises the norm of the reshaped kernel, which is not that of the convolution (erratum 4
of results/paper/departures.yaml). A_l is the layer as a map of images of its input size, with the
padding and stride of training.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sns.common.precision import full_precision
from sns.config.schema import require
from sns.linalg.conv_operator import Convolution
from sns.linalg.power_iteration import random_unit_vectors
from sns.method.base import Method, Risk, Sums, register
from sns.method.spectral import SpectralOptions
from sns.model.sizes import input_sizes

Size = tuple[int, int]


@dataclass
class SpectralOperatorOptions(SpectralOptions):
    """The options of `spectral`. At equal lambda this penalty is stronger.

    The norm of a layer with 3x3 kernels is up to 3 times that of its reshaped matrix.
    """

    name: str = "spectral_operator"


@register("spectral_operator")
class SpectralOperator(Method):
    """Adds lambda * sigma * d sigma / d W to the gradient of every weight, with sigma = <u, A v>.

    u and v are unit images, treated as constants; v (1, I, H, W) is stored from step to step. Image
    sizes are those of the first batch, or of the checkpoint. A linear layer is a 1x1 convolution of
    one pixel, for which this method equals `spectral`.
    """

    Config = SpectralOperatorOptions

    def __init__(self, options: SpectralOperatorOptions, model: nn.Module, generator: torch.Generator) -> None:
        super().__init__(options, model, generator)
        self.factor: float = options.factor * options.scale
        self.layers = {name: m for name, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
        for name, layer in self.layers.items():
            plain = isinstance(layer, nn.Linear) or (layer.padding_mode == "zeros" and isinstance(layer.padding, tuple))
            require(plain, f"method=spectral_operator supports zero padding by whole numbers only, not that of {name}")
        self.generator = generator
        self.v: list[Tensor] = []  # one a layer, in model order; none before the first pass

    def backward(self, risk: Risk, x: Tensor, share: float) -> Sums:
        """The gradient of the risk. The first call also draws v, for the layers' input sizes."""
        require(x.dim() == 4, "method=spectral_operator needs images (N, C, H, W) as inputs; use method=spectral")
        if not self.v:
            self._begin(input_sizes(self.model, tuple(x.shape[1:])))
        return super().backward(risk, x, share)

    def _begin(self, sizes: dict[str, Size]) -> None:
        shapes = []
        for name, layer in self.layers.items():
            linear = isinstance(layer, nn.Linear)
            require(linear or name in sizes, f"{name} takes no part in the forward pass: its norm is not defined")
            shapes.append(_operator(layer, (1, 1) if linear else sizes[name]).input_shape)
        starts = random_unit_vectors([torch.Size(shape).numel() for shape in shapes], self.generator)
        weights = [layer.weight.detach() for layer in self.layers.values()]
        self.v = [v.view(shape).to(w) for v, shape, w in zip(starts, shapes, weights, strict=True)]

    @torch.no_grad()
    def regularize(self) -> Tensor:
        """Returns lambda / 2 * sum of sigma^2, (), with sigma from the power iteration."""
        squares = []
        with full_precision(self.v[0].device):
            for layer, v in zip(self.layers.values(), self.v, strict=True):
                operator = _operator(layer, (v.shape[2], v.shape[3]))
                sigma, u, new = operator.power_iteration(v, self.options.n_iterations)
                v.copy_(new)
                gradient = layer.weight.grad
                assert gradient is not None
                gradient.add_(operator.outer(self.factor * sigma * u, v).view_as(gradient))
                squares.append(sigma.square())
        penalty: Tensor = 0.5 * self.factor * torch.stack(squares).sum()
        return penalty

    def state_dict(self) -> dict[str, Tensor]:
        """v of every layer in model order, shaped as its input; {} before the first pass."""
        return {f"v{i}": v.clone() for i, v in enumerate(self.v)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restores every v."""
        weights = [layer.weight.detach() for layer in self.layers.values()]
        self.v = [state[f"v{i}"].to(w, copy=True) for i, w in enumerate(weights)] if state else []


def _operator(layer: nn.Conv2d | nn.Linear, size: Size) -> Convolution:
    """The layer without its bias as a map of images (1, I, H, W); it shares the weight's memory."""
    weight = layer.weight.detach()
    if isinstance(layer, nn.Linear):
        return Convolution(weight[:, :, None, None], size, (1, 1), (0, 0))
    assert isinstance(layer.padding, tuple)  # __init__ has checked it
    stride, padding, dilation = ((p[0], p[1]) for p in (layer.stride, layer.padding, layer.dilation))
    return Convolution(weight, size, stride, padding, dilation, layer.groups)
