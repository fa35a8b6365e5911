"""What a model is, and the registry of models by name."""

from typing import Any

from sns.common.registry import Registry

# A model is an nn.Module from images (N, channels, image_size, image_size) to logits (N, classes),
# with the dataclass of its options as `Config`. It is built by
# cls(options, channels, image_size, classes, ghost). `ghost`: images that share batch-norm
# statistics (None: all).
MODELS: Registry[Any] = Registry("model")
register = MODELS.register  # a decorator: makes a model known as `model.name=<name>`
