"""Small networks of the paper's parts, and images for them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

N = 23


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Parts(nn.Module):
    """Strided convolution, batch norm, dropout, in-place ReLU, concatenation, max pool, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.3))
        self.branch = nn.Conv2d(4, 2, 5, padding=2, bias=False)
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.head = nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.relu(self.stem(x), inplace=True)
        logits: Tensor = self.head(self.pool(torch.cat([x, self.branch(x)], dim=1)).flatten(1))
        return logits


@pytest.fixture
def model() -> nn.Module:
    """A float64 `Parts` for (2, 8, 8) images in training mode, with unusual running statistics."""
    parts = Parts().double()
    for seed, tensor in enumerate([*parts.parameters(), parts.stem[1].running_mean]):
        tensor.data = 0.5 * draw(*tensor.shape, seed=seed)
    parts.stem[1].running_var.fill_(0.6)
    return parts


@pytest.fixture
def x() -> Tensor:
    """(23, 2, 8, 8) images."""
    return draw(N, 2, 8, 8, seed=50)


@pytest.fixture
def y() -> Tensor:
    """(23,) labels."""
    return torch.arange(N) % 3


@pytest.fixture
def alone() -> Callable[[nn.Module, Tensor, Tensor], Tensor]:
    """The reference: input-gradient norms with one forward and one backward pass an image."""

    def norms(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        model.eval()
        values = []
        for image, label in zip(x, y, strict=True):
            image = image.clone().requires_grad_()
            nn.functional.cross_entropy(model(image[None]), label[None]).backward()
            values.append(image.grad.norm())
        model.zero_grad(set_to_none=True)
        return torch.stack(values)

    return norms
