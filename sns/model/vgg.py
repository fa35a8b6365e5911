"""VGGNet for small images: the 13 convolutions of Chainer's CIFAR example, batch norm, dropout."""

from dataclasses import dataclass, field

from torch import Tensor, nn

from sns.config.schema import require
from sns.model.base import register
from sns.model.ghost_norm import GhostBatchNorm2d


@dataclass
class VGGConfig:
    """The paper's network for CIFAR-10 (14,987,200 parameters)."""

    name: str = "vgg"
    widths: list[list[int]] = field(
        default_factory=lambda: [[64, 64], [128, 128], [256, 256, 256], [512, 512, 512], [512, 512, 512]]
    )  # output channels of the 3x3 convolutions of each group; a 2x2 max-pool ends a group
    dropout: list[list[float]] = field(
        default_factory=lambda: [[0.3, 0.0], [0.4, 0.0], [0.4, 0.4, 0.0], [0.4, 0.4, 0.0], [0.4, 0.4, 0.0]]
    )  # after each convolution
    hidden: int = 512
    head_dropout: float = 0.5  # before each of the two linear layers

    def __post_init__(self) -> None:
        shapes = [len(group) for group in self.widths], [len(group) for group in self.dropout]
        require(shapes[0] == shapes[1], "model.dropout must have one rate for each convolution of model.widths")
        rates = [rate for group in self.dropout for rate in group] + [self.head_dropout]
        require(all(0 <= rate < 1 for rate in rates), "every rate of model.dropout must lie in [0, 1)")


@register("vgg")
class VGG(nn.Module):
    """(N, channels, S, S) images, S a multiple of 2^groups, to (N, classes) logits."""

    Config = VGGConfig

    def __init__(self, config: VGGConfig, channels: int, image_size: int, classes: int, ghost: int | None) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for widths, rates in zip(config.widths, config.dropout, strict=True):
            for width, rate in zip(widths, rates, strict=True):
                layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), GhostBatchNorm2d(width, ghost)]
                layers += [nn.ReLU(inplace=True)]
                layers += [nn.Dropout(rate)] if rate > 0 else []
                channels = width
            layers.append(nn.MaxPool2d(2))
        side = image_size >> len(config.widths)
        require(side > 0, f"{image_size}x{image_size} images are too small for {len(config.widths)} pooling layers")
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(config.head_dropout),
            nn.Linear(channels * side * side, config.hidden, bias=False),
            GhostBatchNorm2d(config.hidden, ghost),
            nn.ReLU(inplace=True),
            nn.Dropout(config.head_dropout),
            nn.Linear(config.hidden, classes, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        logits: Tensor = self.head(self.features(x))
        return logits
