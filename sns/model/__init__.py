"""The networks of section 4.

To add one: a file with its options and its class, and a line in MODELS.
"""

from typing import Any

import torch
from torch import nn

from sns.model.densenet import DenseNet
from sns.model.init import initialize
from sns.model.nin import NIN
from sns.model.vgg import VGG

MODELS: dict[str, Any] = {"vgg": VGG, "nin": NIN, "densenet": DenseNet}


def build(
    options: Any, channels: int, image_size: int, classes: int, ghost: int | None, generator: torch.Generator
) -> nn.Module:
    """The network that `options` (a dataclass such as VGGConfig) describes, on the CPU.

    `channels`, `image_size`: C and H = W of its images; `ghost`: images that share batch-norm
    statistics (None: all). Initialised from `generator`. ConfigError where images are too small.
    """
    model: nn.Module = MODELS[options.name](options, channels, image_size, classes, ghost)
    initialize(model, generator)
    return model
