"""Equation 1 with the norm of each layer as a linear map: adds lambda / 2 * sum_l |A_l|^2.

The paper penalises the norm of the reshaped kernel, which is not that of the convolution (erratum 4
of results/paper/departures.yaml). A_l is the layer as a map of images of its input size, with the
padding and stride of training.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from sns.common.errors import ConfigError
from sns.common.precision import full_precision
from sns.config.schema import require
from sns.linalg.conv_operator import Convolution
from sns.linalg.power_iteration import random_unit_vectors
from sns.linalg.weights import Weight
from sns.method.base import Method, Risk, Sums, register, trained_weights
from sns.method.spectral import SpectralOptions
from sns.model.sizes import input_sizes

Size = tuple[int, ...]


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
        self.weights = trained_weights(options.name, model)
        for weight in self.weights:
            _operator(weight)  # ConfigError at the start, not at the first update
        self.generator = generator
        self.v: list[Tensor] = []  # one a layer, in model order; none before the first pass

    def backward(self, risk: Risk, x: Tensor, share: float) -> Sums:
        """The gradient of the risk. The first call also draws v, for the layers' input sizes."""
        require(x.dim() == 4, "method=spectral_operator needs images (N, C, H, W) as inputs; use method=spectral")
        if not self.v:
            self._begin(input_sizes(self.model, tuple(x.shape[1:])))
        return super().backward(risk, x, share)

    def _begin(self, sizes: dict[str, Size]) -> None:
        operators = []
        for weight in self.weights:
            size = sizes.get(weight.name.rpartition(".")[0])
            used = size is not None or not isinstance(weight.module, _ConvNd)
            require(used, f"{weight.name} takes no part in the forward pass: its norm is not defined")
            operators.append(_operator(weight, size))
        shapes = [operator.input_shape for operator in operators]
        starts = random_unit_vectors([torch.Size(shape).numel() for shape in shapes], self.generator)
        tensors = [operator.weight for operator in operators]
        self.v = [v.view(shape).to(w) for v, shape, w in zip(starts, shapes, tensors, strict=True)]

    @torch.no_grad()
    def regularize(self) -> Tensor:
        """Returns lambda / 2 * sum of sigma^2, (), with sigma from the power iteration."""
        squares = []
        with full_precision(self.v[0].device):
            for weight, v in zip(self.weights, self.v, strict=True):
                operator = replace(_operator(weight), input_size=(v.shape[2], v.shape[3]))
                sigma, u, new = operator.power_iteration(v, self.options.n_iterations)
                v.copy_(new)
                weight.add_gradient(operator.outer(self.factor * sigma * u, v).view_as(weight.tensor))
                squares.append(sigma.square())
        penalty: Tensor = 0.5 * self.factor * torch.stack(squares).sum()
        return penalty

    def state_dict(self) -> dict[str, Tensor]:
        """v of every layer in model order, shaped as its input; {} before the first pass."""
        return {f"v{i}": v.clone() for i, v in enumerate(self.v)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restores every v."""
        weights = [weight.tensor.detach() for weight in self.weights]
        self.v = [state[f"v{i}"].to(w, copy=True) for i, w in enumerate(weights)] if state else []


def _operator(weight: Weight, size: Size | None = None) -> Convolution:
    """The layer without its bias as a map of images; it shares the weight's memory.

    `size`: of the layer's input; 1 in each dimension if None. ConfigError for a layer that is no
    such map.
    """
    if not isinstance(weight.module, _ConvNd):
        return Convolution(weight.matrix()[:, :, None, None], (1, 1), (1, 1), (0, 0))
    tensor = weight.tensor.detach()
    operator = Convolution.of(weight.module, tensor, size or (1,) * (tensor.dim() - 2))
    if operator is None:
        raise ConfigError(
            f"method=spectral_operator cannot treat {weight.name}: convolutions must be in 1 or 2 dimensions with "
            "zero padding, equal on both sides; use method=spectral"
        )
    return operator
