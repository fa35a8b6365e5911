"""DenseNet without bottleneck and compression (Huang et al. 2017, without data augmentation)."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sns.config.schema import later, require
from sns.model.base import register
from sns.model.ghost_norm import GhostBatchNorm2d

BLOCKS = 3
STATISTICS = ("each", "once")


@dataclass
class DenseNetConfig:
    """The paper's DenseNet-40 with growth rate 12."""

    name: str = "densenet"
    depth: int = 40  # 3 blocks of (depth - 4) / 3 convolutions
    growth: int = 12  # channels that each convolution adds
    first: int = 16  # channels of the first convolution
    dropout: float = 0.2  # after every convolution but the first
    # Batch statistics in training: each layer computes those of all its channels | once a channel
    statistics: str = later("each")

    def __post_init__(self) -> None:
        require(
            self.depth >= 7 and (self.depth - 4) % BLOCKS == 0,
            f"model.depth={self.depth} must be 4 + 3n with n > 0, such as 22 or 40",
        )
        require(self.growth > 0 and self.first > 0, "model.growth and model.first must be positive")
        require(self.statistics in STATISTICS, f"model.statistics={self.statistics} is unknown; choose each or once")
        require(0 <= self.dropout < 1, f"model.dropout={self.dropout} must lie in [0, 1)")


class Layer(nn.Module):
    """Batch norm, ReLU, convolution without bias, dropout."""

    def __init__(self, channels: int, out: int, kernel: int, dropout: float, ghost: int | None) -> None:
        super().__init__()
        self.norm = GhostBatchNorm2d(channels, ghost)
        self.conv = nn.Conv2d(channels, out, kernel, padding=kernel // 2, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(N, out, H, W)."""
        return self.after_norm(self.norm(x))

    def after_norm(self, x: Tensor) -> Tensor:
        """`forward` from the output of batch norm on."""
        out: Tensor = self.dropout(self.conv(F.relu(x, inplace=True)))
        return out


class DenseLayer(Layer):
    """Appends the 3x3 layer's output to its input: (N, C, H, W) to (N, C + growth, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Input and new channels."""
        return torch.cat([x, super().forward(x)], dim=1)


class Transition(Layer):
    """A 1x1 layer with as many outputs as inputs, then 2x2 average pooling."""

    def after_norm(self, x: Tensor) -> Tensor:
        """(N, C, H // 2, W // 2)."""
        return F.avg_pool2d(super().after_norm(x), 2)


@register("densenet")
class DenseNet(nn.Module):
    """(N, channels, S, S) images to (N, classes) logits."""

    Config = DenseNetConfig

    def __init__(self, config: DenseNetConfig, channels: int, image_size: int, classes: int, ghost: int | None) -> None:
        super().__init__()
        require(image_size >= 4, f"{image_size}x{image_size} images are too small for two average pools")
        width = config.first
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1, bias=False)]
        for block in range(BLOCKS):
            for _ in range((config.depth - 4) // BLOCKS):
                layers.append(DenseLayer(width, config.growth, 3, config.dropout, ghost))
                width += config.growth
            if block < BLOCKS - 1:
                layers.append(Transition(width, width, 1, config.dropout, ghost))
        layers += [GhostBatchNorm2d(width, ghost), nn.ReLU(inplace=True)]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(width, classes)
        self.once = config.statistics == "once"

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        once = self.once and all(m.training for m in self.modules() if isinstance(m, GhostBatchNorm2d))
        features = self._features_once(x) if once else self.features(x)
        logits: Tensor = self.head(features.mean(dim=(2, 3)))
        return logits

    def _features_once(self, x: Tensor) -> Tensor:
        """`features` in training mode, to rounding.

        A channel has the same batch statistics in every later layer of its block. So it is
        standardised once, and each layer only multiplies by its gamma and adds its beta.
        """
        modules: list[Any] = list(self.features)
        first, *layers, norm, relu = modules
        known = norm.standardize(first(x))
        for layer in layers:
            new = norm.standardize(layer.after_norm(layer.norm.rescale(known)))
            known = known.append(new) if isinstance(layer, DenseLayer) else new
        features: Tensor = relu(norm.rescale(known))
        return features
