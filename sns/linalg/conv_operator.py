"""The norm of a convolution as a linear map on images, not that of its reshaped kernel (erratum 4).

It is that of the map that the layer applies, with zero padding and stride as given;
`sns.linalg.circular` has that of circular padding.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn import grad

from sns.linalg.circular import transfer_matrices
from sns.linalg.power_iteration import TINY

DENSE = 32  # up to this rank the matrix itself is formed
CHECKS = (1, 12, 20, 28, 36, 44, 52, 64)  # directions of Lanczos; it restarts from the last
KEPT, ROOM = 16, 2**26  # directions that a restart retains; numbers in all of them
ROUGH = 3e-6  # least residual for float32, in which a CPU's convolutions are 3 to 6 times faster
WARM = ((4, 8), (40, 4))  # power iterations on each frequency, and how many frequencies go on
RANDOM = 0.1  # share of noise in the start


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

    def turned(self) -> "Convolution | None":
        """A^T as a convolution, which is faster than `adjoint`; None if it is none: for a stride,
        for groups, and for more padding than the kernel's reach."""
        reach = [d * (k - 1) for d, k in zip(self.dilation, self.weight.shape[2:], strict=True)]
        pad = reach[0] - self.padding[0], reach[1] - self.padding[1]
        if self.groups > 1 or self.stride != (1, 1) or min(pad) < 0:
            return None
        weight = self.weight.flip(2, 3).transpose(0, 1).contiguous()
        return Convolution(weight, self.output_shape[2:], (1, 1), pad, self.dilation)

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
        and for ranks up to `DENSE` (from the matrix itself). Else by Lanczos on A^T A, or on A A^T
        where A has fewer output than input channels: first in float32 from the waves that stride 1
        and circular padding would amplify most, then in float64. Plain power iteration would need
        several times more products for less precision, because neighbouring frequencies have nearly
        equal gains.

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
        largest = exact.weight.abs().max()
        exact = replace(exact, weight=exact.weight / largest)  # no overflow in float32
        if exact.weight.shape[0] < exact.weight.shape[1]:
            exact = exact.turned() or exact  # the same norm, with fewer input channels
        single = replace(exact, weight=exact.weight.float())
        rough = max(tolerance / 2, ROUGH)
        _, start, _ = _lanczos(single, rough, iterations, _start(single, generator))
        value, _, converged = _lanczos(exact, tolerance, iterations, start.double())
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


def _gram(operator: Convolution) -> Tensor | None:
    """K^T K of the reshaped kernel K (O, I kh kw), if products with it are the cheaper ones."""
    kernel = operator.weight.flatten(1)
    return kernel.mT @ kernel if operator.groups == 1 and kernel.shape[1] <= len(kernel) else None


def _start(operator: Convolution, generator: torch.Generator) -> Tensor:
    """A first image for `_lanczos`, in the type of the weight, float32.

    For stride 1 it is a sum of waves, of the frequencies and the mixtures of channels that circular
    padding would amplify most, which fall to zero at the borders; with a small random part, without
    which it could be orthogonal to what is sought. With one wave alone, Lanczos can end at another
    singular value. Else it is random.
    """
    device, (height, width) = operator.weight.device, operator.input_size
    noise = torch.randn(operator.input_shape, generator=generator, device=generator.device).to(device)
    if operator.stride != (1, 1) or operator.dilation != (1, 1) or operator.groups > 1:
        return noise
    gram = _gram(operator)
    gains = transfer_matrices(
        operator.weight if gram is None else _autocorrelation(operator, gram), operator.input_size
    )
    gains = gains.contiguous()
    adjoint = None if gram is not None else gains.mH.resolve_conj().contiguous()
    mixture = torch.randn(len(gains), gains.shape[2], 1, generator=generator, device=generator.device).to(gains)
    chosen = torch.arange(len(gains), device=device)
    for count, left in WARM:
        for _ in range(count):
            mixture = gains @ mixture if adjoint is None else adjoint @ (gains @ mixture)
            size = torch.linalg.vector_norm(mixture, dim=1, keepdim=True)
            mixture = mixture / size.clamp_min(TINY)
        best = size.flatten().topk(min(left, len(gains))).indices
        gains, mixture, chosen = gains[best], mixture[best], chosen[best]
        if adjoint is not None:
            gains, adjoint = adjoint[best] @ gains, None
    rows, columns = (torch.arange(n, device=device) for n in (height, width))
    down, right = chosen[:, None, None] // (width // 2 + 1), chosen[:, None, None] % (width // 2 + 1)
    angle = 2 * math.pi * (down * rows[:, None] / height + right * columns / width)
    fade = torch.outer(*(torch.sin(math.pi * (p + 1) / (len(p) + 1)) for p in (rows, columns)))
    waves = (mixture.conj()[:, :, :, None] * torch.polar(fade.expand_as(angle), angle)[:, None]).real
    wave = (waves / torch.linalg.vector_norm(waves, dim=(1, 2, 3), keepdim=True).clamp_min(TINY)).sum(0)
    start: Tensor = (wave / wave.norm().clamp_min(TINY) + RANDOM * noise[0] / noise.norm()).unsqueeze(0)
    return start


def _autocorrelation(operator: Convolution, gram: Tensor) -> Tensor:
    """The kernel (I, I, 2 kh - 1, 2 kw - 1) of A^T A without borders: sums of K^T K over the pairs
    of taps at the same distance."""
    _, channels, height, width = operator.weight.shape
    taps, full = height * width, (2 * height - 1, 2 * width - 1)
    pairs = gram.view(channels, taps, channels, taps).permute(0, 2, 1, 3).flip(2)
    sums = F.fold(pairs.reshape(1, -1, taps), full, (height, width))
    return sums.view(channels, channels, *sums.shape[2:])


def _normal_product(operator: Convolution) -> Callable[[Tensor], Tensor]:
    """x -> A^T A x for one image, as two convolutions or one product with K^T K."""
    gram, kernel = _gram(operator), operator.weight.shape[2:]
    if gram is None:
        turned = operator.turned()
        back = operator.adjoint if turned is None else turned.apply
        return lambda x: back(operator.apply(x))
    geometry = kernel, operator.dilation, operator.padding, operator.stride
    return lambda x: F.fold(gram @ F.unfold(x, *geometry), operator.input_size, *geometry)


def _lanczos(operator: Convolution, tolerance: float, iterations: int, image: Tensor) -> tuple[float, Tensor, bool]:
    """(sigma^2, its image, whether the residual is within tolerance), by Lanczos on A^T A from
    `image` with thick restarts (Wu & Simon 2000, section 3), in the weight's type.

    A restart retains the best KEPT Ritz vectors. Directions are orthogonalised in full. Eigenvalues
    of the projected matrix are computed after as many directions as CHECKS says. The residual of a
    Ritz vector is a multiple of the next direction.
    """
    product, shape, image = _normal_product(operator), image.shape, image.flatten()
    most = min(CHECKS[-1], max(2 * KEPT, ROOM // len(image)))
    basis, projected, count = image.new_empty(most, len(image)), image.new_zeros(most, most), 0
    left, noise = image.norm(), 10 * torch.finfo(image.dtype).eps
    for _ in range(iterations * (most - KEPT)):
        basis[count] = image / left
        image = product(basis[count].view(shape)).flatten()
        count += 1
        first = 0 if count == KEPT + 1 else max(0, count - 2)  # others are orthogonal but for rounding
        projected[count - 1, first:count] = along = basis[first:count] @ image
        image -= along @ basis[first:count]
        image -= (basis[:count] @ image) @ basis[:count]
        left = image.norm()
        if count in CHECKS or count == most or bool(left <= noise * projected[0, 0]):
            values, vectors = torch.linalg.eigh(projected[:count, :count].double().cpu())  # of the lower triangle
            converged = bool(left * vectors[-1, -1].abs() <= tolerance * values[-1])
            vectors = vectors.to(image)
            if converged:
                break
            if count == most:
                basis[:KEPT], count = vectors[:, -KEPT:].mT @ basis, KEPT
                projected[:KEPT, :KEPT] = values[-KEPT:].diag()
    return values[-1].item(), (vectors[:, -1] @ basis[: len(vectors)]).view(shape), converged
