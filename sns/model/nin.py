"""Network in Network for CIFAR-100 (Lin et al. 2014), with batch norm.

Without batch norm it diverges at learning rate 1.
"""

from dataclasses import dataclass, field

from torch import Tensor, nn

from sns.config.schema import require
from sns.model.base import register
from sns.model.ghost_norm import GhostBatchNorm2d

BATCH_NORM = ("every", "hidden", "none")


@dataclass
class NINConfig:
    """The paper's network. Each block is one k x k convolution, then 1x1 convolutions."""

    name: str = "nin"
    widths: list[list[int]] = field(
        default_factory=lambda: [[192, 160, 96], [192, 192, 192], [192, 192]]
    )  # output channels; a last 1x1 convolution to the classes follows
    kernels: list[int] = field(default_factory=lambda: [5, 5, 3])  # of the first convolution of each block
    dropout: float = 0.5  # after each pool
    batch_norm: str = "every"  # every convolution | hidden: all but the logits | none

    def __post_init__(self) -> None:
        require(
            len(self.widths) == len(self.kernels), "model.kernels must have one size for each block of model.widths"
        )
        require(all(self.widths), "model.widths must not have an empty block")
        require(all(k % 2 == 1 for k in self.kernels), f"model.kernels={self.kernels} must be odd")
        require(0 <= self.dropout < 1, f"model.dropout={self.dropout} must lie in [0, 1)")
        require(
            self.batch_norm in BATCH_NORM,
            f"model.batch_norm={self.batch_norm} is unknown; choose one of {', '.join(BATCH_NORM)}",
        )


@register("nin")
class NIN(nn.Module):
    """(N, channels, S, S) images to (N, classes) logits.

    Between the blocks: 3x3 max-pools of stride 2 in ceil mode.
    """

    Config = NINConfig

    def __init__(self, config: NINConfig, channels: int, image_size: int, classes: int, ghost: int | None) -> None:
        super().__init__()
        smallest = 2 ** (len(config.widths) - 1)
        require(
            image_size >= smallest, f"{image_size}x{image_size} images are too small for {len(config.widths)} blocks"
        )
        layers: list[nn.Module] = []
        for block, (widths, kernel) in enumerate(zip(config.widths, config.kernels, strict=True)):
            if block > 0:
                layers += [nn.MaxPool2d(3, 2, ceil_mode=True)]
                layers += [nn.Dropout(config.dropout)] if config.dropout > 0 else []
            for place, width in enumerate(widths):
                size = kernel if place == 0 else 1
                layers += [nn.Conv2d(channels, width, size, padding=size // 2)]
                layers += [] if config.batch_norm == "none" else [GhostBatchNorm2d(width, ghost)]
                layers += [nn.ReLU(inplace=True)]
                channels = width
        layers += [nn.Conv2d(channels, classes, 1)]
        layers += [GhostBatchNorm2d(classes, ghost)] if config.batch_norm == "every" else []
        self.features = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Logits: the mean over positions of the last 1x1 convolution's output."""
        logits: Tensor = self.features(x).mean(dim=(2, 3))
        return logits
