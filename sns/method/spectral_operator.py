"""Equation 1 with the norm of each layer as a linear map: adds lambda / 2 * sum_l |A_l|^2.

The paper penalises the norm of the reshaped kernel, which is not that of the convolution (erratum 4
of results/paper/departures.yaml). A_l is the layer as a map of images of its input size, with the
padding and stride of training. Image sizes are those of the first batch, or of the checkpoint.
"""

from dataclasses import dataclass

from sns.config.schema import require
from sns.method.base import register
from sns.method.spectral import CORRECTED, Spectral, SpectralOptions


@dataclass
class SpectralOperatorOptions(SpectralOptions):
    """The options of `spectral`. At equal lambda this penalty is stronger.

    The norm of a layer with 3x3 kernels is up to 3 times that of its reshaped matrix.
    """

    name: str = "spectral_operator"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.algorithm == CORRECTED, f"method.algorithm={self.algorithm} needs method=spectral")


@register("spectral_operator")
class SpectralOperator(Spectral):
    """Adds lambda * sigma * d sigma / d W to the gradient of every weight, sigma = <u, A v>."""

    Config = SpectralOperatorOptions
    operator = True
