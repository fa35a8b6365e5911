"""The norm of a convolution as a linear map on images, not that of its reshaped kernel (erratum 4).

`operator_norm` is for the map that the layer applies: zero padding and stride as given.
`circular_operator_norm` is for stride 1 and circular padding, which the Fourier transform
diagonalises (Sedghi et al. 2019).
"""

import math
import warnings
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn import grad

from sns.linalg.power_iteration import TINY

DENSE = 32  # up to this rank the matrix itself is formed
BASIS, KEPT = 24, 8  # directions of Lanczos before and after a restart
ROUGH = 3e-6  # least residual for float32, in which a CPU's convolutions are 3 to 6 times faster
WARM, RANDOM = 8, 0.1  # power iterations on each frequency of the first wave, and the share of noise in it


@dataclass(frozen=True)
class Convolution:
    """The map A of (1, I, H, W) to (1, O, H', W') that `weight` (O, I / groups, kh, kw) defines."""

    weight: Tensor
    input_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """(1, I, H, W)."""
        return (1, self.weight.shape[1] * self.groups, *self.input_size)

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        """(1, O, H', W')."""
        (height, _), (width, _) = (self._span(axis) for axis in (0, 1))
        return (1, self.weight.shape[0], height, width)

    def _span(self, axis: int) -> tuple[int, int]:
        """Outputs along an axis, and the rows of padded input that no output sees."""
        extent = self.dilation[axis] * (self.weight.shape[2 + axis] - 1) + 1
        room = self.input_size[axis] + 2 * self.padding[axis] - extent
        if room < 0:
            raise ValueError(f"a kernel that spans {extent} does not fit {self.input_size} with padding {self.padding}")
        return room // self.stride[axis] + 1, room % self.stride[axis]

    def apply(self, x: Tensor) -> Tensor:
        """A x for a batch of images."""
        return F.conv2d(x, self.weight, None, self.stride, self.padding, self.dilation, self.groups)

    def adjoint(self, y: Tensor) -> Tensor:
        """A^T y, with output_padding for the unseen rows, in the shape of the input."""
        rest = (self._span(0)[1], self._span(1)[1])
        return F.conv_transpose2d(y, self.weight, None, self.stride, self.padding, rest, self.groups, self.dilation)

    def outer(self, y: Tensor, x: Tensor) -> Tensor:
        """The gradient of <y, A x> w.r.t. the weight, in its shape: y x^T for a matrix."""
        geometry = self.stride, self.padding, self.dilation, self.groups
        gradient: Tensor = grad.conv2d_weight(x, self.weight.shape, y, *geometry)
        return gradient

    @classmethod
    def of(cls, layer: nn.Module, weight: Tensor, size: tuple[int, ...]) -> "Convolution | None":
        """The map of a layer with this weight and inputs of `size`, or its adjoint; both have the
        same norm. A transposed convolution is an adjoint, one in 1 dimension has images of height
        1. None for other layers and for a padding that is not zero on both sides alike.
        """
        if not isinstance(layer, nn.Conv1d | nn.Conv2d | nn.ConvTranspose1d | nn.ConvTranspose2d):
            return None
        spread = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        padding = layer.padding
        if isinstance(padding, str):
            padding = tuple(extent // 2 if padding == "same" else 0 for extent in spread)
            if layer.padding == "same" and any(extent % 2 for extent in spread):
                return None
        if layer.padding_mode != "zeros":
            return None
        if isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d):
            terms = zip(size, layer.stride, padding, spread, layer.output_padding, strict=True)
            size = tuple((n - 1) * s - 2 * p + extent + o + 1 for n, s, p, extent, o in terms)
        geometry = (size, layer.stride, padding, layer.dilation)
        if weight.dim() == 3:
            size, stride, padding, dilation = (
                (first, *rest) for first, rest in zip((1, 1, 0, 1), geometry, strict=True)
            )
            return cls(weight.unsqueeze(2), size, stride, padding, dilation, layer.groups)  # type: ignore[arg-type]
        return cls(weight, *geometry, layer.groups)  # type: ignore[arg-type]

    def power_iteration(self, v: Tensor, n_iterations: int = 1) -> tuple[Tensor, Tensor, Tensor]:
        """(sigma, u, v) after `n_iterations` of u <- Av / |Av|, v <- A^T u / |A^T u|, from v.

        As `sns.linalg.power_iteration`, with images u and v, v (1, I, H, W) of norm 1. sigma = <u,
        A v>, a scalar, is a lower bound of the norm. Static shapes; nothing waits for the device.
        ValueError if n_iterations < 1.
        """
        if n_iterations < 1:
            raise ValueError(f"n_iterations={n_iterations} must be at least 1")
        for _ in range(n_iterations):
            u = self.apply(v)
            u = u / u.norm().clamp_min(TINY)
            image = self.adjoint(u)
            sigma = image.norm()
            v = image / sigma.clamp_min(TINY)
        return sigma, u, v

    def norm(self, tolerance: float = 1e-5, iterations: int = 1_000, generator: torch.Generator | None = None) -> float:
        """The largest singular value, in float64 on the weight's device.

        Exact, up to rounding, where patches do not overlap (the reshaped kernel has the same norm)
        and for ranks up to `DENSE` (from the matrix itself). Else by Lanczos on A^T A or A A^T, the
        smaller of the two, applied as convolution and transposed convolution: first in float32 from
        the wave that stride 1 and circular padding would amplify most, then in float64. Plain power
        iteration would need several times more products for less precision, because neighbouring
        frequencies have nearly equal gains.

        `tolerance` bounds |A^T A x - sigma^2 x| / sigma^2, hence the relative error of sigma by
        half of it; `iterations` bounds Lanczos's restarts. A random part of the start is from
        `generator` (None: a fixed one). NaN for a weight that is not finite and, with a warning,
        without convergence. ValueError if the kernel does not fit the input.
        """
        exact = replace(self, weight=self.weight.detach().double())
        if not bool(exact.weight.isfinite().all()):
            return math.nan
        sizes = math.prod(exact.input_shape), math.prod(exact.output_shape)
        if self.groups == 1 and _disjoint_patches(exact):
            return float(torch.linalg.svdvals(exact.weight.flatten(1).cpu())[0])  # a GPU takes longer
        if min(sizes) <= DENSE:
            return float(torch.linalg.svdvals(_dense(exact).cpu())[0])
        if not bool(exact.weight.any()):
            return 0.0
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        largest, input_side = exact.weight.abs().max(), sizes[0] <= sizes[1]
        exact = replace(exact, weight=exact.weight / largest)  # no overflow in float32
        single = replace(exact, weight=exact.weight.float())
        start, rough = _start(single, input_side, generator), max(tolerance / 2, ROUGH)
        _, start, _ = _lanczos(single, input_side, rough, iterations, start)
        value, _, converged = _lanczos(exact, input_side, tolerance, iterations, start)
        if converged:
            return math.sqrt(value) * largest.item()
        shape = tuple(self.weight.shape)
        warnings.warn(f"the norm of a {shape} convolution is left out: no convergence", stacklevel=2)
        return math.nan


def operator_norm(
    weight: Tensor,
    input_size: tuple[int, int],
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    *,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    **search: Any,
) -> float:
    """`Convolution.norm`, with its options, of a weight (O, I / groups, kh, kw) on H x W inputs."""
    return Convolution(weight, input_size, _pair(stride), _pair(padding), _pair(dilation), groups).norm(**search)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def _disjoint_patches(operator: Convolution) -> bool:
    """Whether input patches do not overlap, and at least one output sees no padding.

    Then A is block-diagonal, and its blocks are copies of the reshaped kernel or zero.
    """
    kernel = tuple(operator.weight.shape[2:])
    if kernel == (1, 1):
        return operator.padding == (0, 0) or operator.stride == (1, 1)
    apart = all(k <= s for k, s in zip(kernel, operator.stride, strict=True))
    return apart and operator.padding == (0, 0) and operator.dilation == (1, 1)


def _dense(operator: Convolution) -> Tensor:
    """A^T or A, whichever has fewer rows."""
    rows = min(operator.input_shape, operator.output_shape, key=math.prod)
    apply = operator.apply if rows == operator.input_shape else operator.adjoint
    size = math.prod(rows)
    identity = torch.eye(size, dtype=torch.float64, device=operator.weight.device)
    return apply(identity.view(size, *rows[1:])).flatten(1)


def _start(operator: Convolution, input_side: bool, generator: torch.Generator) -> Tensor:
    """A first direction for `_lanczos`, flat, in the type of the weight, float32.

    For stride 1 it is a wave, of the frequency and the mixture of channels that circular padding
    would amplify most, which falls to zero at the borders; with a small random part, without which
    it could be orthogonal to what is sought. Else it is random.
    """
    device, (height, width) = operator.weight.device, operator.input_size
    noise = torch.randn(operator.input_shape, generator=generator, device=generator.device).to(device)
    if operator.stride == (1, 1) and operator.dilation == (1, 1) and operator.groups == 1:
        gains = transfer_matrices(operator.weight, operator.input_size)
        mixture = noise.new_ones(len(gains), gains.shape[2], 1).to(gains)
        mixture[:, :, 0] = torch.randn(gains.shape[2], generator=generator, device=generator.device).to(gains)
        for _ in range(WARM):
            image = gains.mH @ (gains @ mixture)
            size = torch.linalg.vector_norm(image, dim=1, keepdim=True)
            mixture = image / size.clamp_min(TINY)
        down, right = divmod(int(size.flatten().argmax()), width // 2 + 1)
        rows, columns = (torch.arange(n, device=device) for n in (height, width))
        angle = 2 * math.pi * (down * rows[:, None] / height + right * columns / width)
        fade = torch.outer(*(torch.sin(math.pi * (p + 1) / (len(p) + 1)) for p in (rows, columns)))
        chosen = mixture[down * (width // 2 + 1) + right].conj()
        wave = (chosen[:, :, None] * torch.polar(fade, angle)).real
        noise = wave / wave.norm() + RANDOM * noise[0] / noise.norm()
        noise = noise.view(operator.input_shape)
    return (noise if input_side else operator.apply(noise)).flatten()


def _lanczos(
    operator: Convolution, input_side: bool, tolerance: float, iterations: int, direction: Tensor
) -> tuple[float, Tensor, bool]:
    """(sigma^2, its unit vector, whether the residual is within tolerance), by Lanczos with thick
    restarts (Wu & Simon 2000, section 3), in the weight's type.

    A restart retains the best KEPT Ritz vectors of BASIS directions. Directions are orthogonalised
    in full. The residual of a Ritz vector is a multiple of the next direction.
    """
    shape = operator.input_shape if input_side else operator.output_shape
    first, second = (operator.apply, operator.adjoint) if input_side else (operator.adjoint, operator.apply)
    direction = direction.to(operator.weight)
    basis = direction.new_zeros(BASIS, len(direction))
    projected, count = direction.new_zeros(BASIS, BASIS), 0  # of A^T A or A A^T; the lower triangle
    for _ in range(iterations * (BASIS - KEPT)):
        basis[count] = direction / direction.norm()
        direction = second(first(basis[count].view(shape))).flatten()
        count += 1
        projected[count - 1, :count] = basis[:count] @ direction
        direction = direction - projected[count - 1, :count] @ basis[:count]
        direction -= (basis[:count] @ direction) @ basis[:count]  # once is not enough in finite precision
        values, vectors = torch.linalg.eigh(projected[:count, :count])
        if bool(direction.norm() * vectors[-1, -1].abs() <= tolerance * values[-1]):
            return values[-1].item(), vectors[:, -1] @ basis[:count], True
        if count == BASIS:
            basis[:KEPT], count = vectors[:, -KEPT:].mT @ basis, KEPT
            projected[:KEPT, :KEPT] = values[-KEPT:].diag()
    return values[-1].item(), vectors[:, -1] @ basis[: len(vectors)], False


def circular_operator_norm(weight: Tensor, input_size: tuple[int, int]) -> float:
    """Largest singular value of a convolution at stride 1 with circular padding, on H x W inputs.

    `weight` is (O, I, kh, kw). Exact: at each frequency the map is the O x I matrix of the kernels'
    Fourier coefficients (Sedghi et al. 2019, theorem 6); the norm is the largest over frequencies.
    A kernel larger than the input wraps around it. Float64 on the weight's device; NaN for a weight
    that is not finite.
    """
    weight = weight.detach().double()
    if not bool(weight.isfinite().all()):
        return math.nan
    coefficients = transfer_matrices(weight, input_size)
    if coefficients.shape[1] > coefficients.shape[2]:
        coefficients = coefficients.mT
    gram = coefficients @ coefficients.mH
    return float(torch.linalg.eigvalsh(gram)[:, -1].max().clamp_min(0).sqrt())


def transfer_matrices(weight: Tensor, input_size: tuple[int, int]) -> Tensor:
    """The matrices (H * (W // 2 + 1), O, I), complex, that a convolution at stride 1 with circular
    padding is at each frequency, up to a phase.

    Kernels are real: the other frequencies are conjugates, with equal singular values. A kernel
    larger than the input wraps around it.
    """
    (height, width), (kh, kw) = input_size, weight.shape[2:]
    weight = F.pad(weight, (0, -kw % width, 0, -kh % height))
    tiles = weight.reshape(*weight.shape[:2], -1, height, weight.shape[3] // width, width)
    matrices: Tensor = torch.fft.rfft2(tiles.sum(dim=(2, 4))).permute(2, 3, 0, 1).flatten(0, 1)
    return matrices
