"""Weights as the matrices of section 3.2."""

from torch import Tensor, nn


def weight_parameters(model: nn.Module) -> list[Tensor]:
    """The weight matrices of section 3.1: every convolution and linear weight."""
    return [module.weight for module in model.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]


def as_matrix(weight: Tensor) -> Tensor:
    """(out, in, kh, kw) or (out, in) as the (out, in * kh * kw) matrix of section 3.2, a view.

    A channels_last kernel is viewed as (out, kh * kw * in): the same matrix with its columns in
    another order, hence with the same singular values; see `paper_order`. RuntimeError if the
    memory layout allows no view: what is added to a copy would be lost.
    """
    if weight.dim() == 4 and not weight.is_contiguous():
        weight = weight.permute(0, 2, 3, 1)
    return weight.view(weight.shape[0], -1)


def paper_order(weight: Tensor, v: Tensor) -> Tensor:
    """A right vector (n,) of `as_matrix(weight)` in the column order of section 3.2."""
    if weight.dim() == 4 and not weight.is_contiguous():
        _, channels, height, width = weight.shape
        return v.view(height, width, channels).permute(2, 0, 1).reshape(-1)
    return v


def memory_order(weight: Tensor, v: Tensor) -> Tensor:
    """The inverse of `paper_order`."""
    if weight.dim() == 4 and not weight.is_contiguous():
        return v.view(weight.shape[1:]).permute(1, 2, 0).reshape(-1)
    return v
