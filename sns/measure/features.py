"""Features and class logits of images, for scores of generated images (sns/measure/frechet.py).

Images are bytes (N, C, H, W), as a file would hold them: generated and real ones lose the same.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from sns.common import accelerator
from sns.common.accelerator import forked_rng
from sns.common.errors import UserError, first_line
from sns.common.sealed import read
from sns.config.compose import checked
from sns.config.schema import DataConfig
from sns.data.gcn import global_contrast_normalize
from sns.data.resize import area_average
from sns.model import MODELS
from sns.record import store
from sns.record.schema import CHECKPOINT

GREY = 256  # levels of a pixel
MAKE = "python scripts/train.py -m experiment=sngan_classifier"
# Images of a pass, by Accelerator.host: small passes stay in a CPU's cache, twice as fast or more.
PASS = {True: 25, False: 250}

Outputs = tuple[Tensor, Tensor | None]  # features (N, D), and logits (N, K) where there are any


@dataclass(frozen=True)
class Extractor:
    """A network in evaluation mode, with the preparation of its images."""

    name: str
    key: str  # what it is, for caches
    outputs: Callable[[Tensor], Outputs]  # of bytes (N, C, H, W) on `device`
    device: torch.device
    channels: int  # C

    def passes(self, images: Tensor) -> Iterator[Outputs]:
        """The outputs for images (N, C, H, W) uint8 on any device, a pass at a time, without
        gradients."""
        for part in images.split(PASS[accelerator.of(self.device).host]):
            with torch.inference_mode():
                yield self.outputs(part.to(self.device))


def to_bytes(images: Tensor) -> Tensor:
    """Images in [-1, 1], at 256 levels of equal width, as uint8 of the same shape."""
    return ((images + 1) * (GREY / 2)).floor().clamp(0, GREY - 1).to(torch.uint8)


def from_bytes(levels: Tensor, noise: Tensor | float = 0.5) -> Tensor:
    """Grey levels 0..255 as float32 in [-1, 1], at the place `noise` in [0, 1) of their width."""
    return (levels.float() + noise) * (2.0 / GREY) - 1.0


def classifier(directory: Path, device: torch.device) -> Extractor:
    """A network that this project trained to classify images, from its run directory or a folder
    that holds no other run.

    Features are the input of its last linear layer. Images are averaged to `data.resolution` of the
    run and contrast-normalised as its training images were. UserError, one sentence, if the run
    or its weights are missing or of another kind.
    """
    found = store.run_directories(directory)
    if len(found) > 1:
        raise UserError(f"{directory} holds {len(found)} runs: name the run directory of one, such as {found[0]}")
    directory = found[0] if found else directory
    if not (store.is_finished(directory) and (directory / CHECKPOINT).is_file()):
        raise UserError(f"{directory} holds no finished run with its {CHECKPOINT}: make one with `{MAKE}`")
    record = store.read(directory)
    data = checked("data", DataConfig, record.config.get("data") or {})
    side = data.resolution
    if record.result.task != "classification" or record.result.status != "ok" or side is None:
        raise UserError(f"{directory} is no classifier at a stated data.resolution: make one with `{MAKE}`")
    try:
        weights = read(directory / CHECKPOINT)["task"]["model"]
        network, channels = _network(record.config["model"], side, weights)
    except (ValueError, OSError, RuntimeError, KeyError, IndexError) as error:
        raise UserError(
            f"{directory / CHECKPOINT} cannot be used ({first_line(error)}): make another with `{MAKE}`"
        ) from None
    network = network.to(device)
    last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    inputs: list[Tensor] = []
    last.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))

    def outputs(images: Tensor) -> Outputs:
        if images.shape[2] % side:
            size, good = "x".join(map(str, images.shape[2:])), f"data.resolution={images.shape[2]}"
            raise UserError(f"{directory} classifies images of {side}x{side} pixels, not {size}: train one with {good}")
        small = torch.from_numpy(area_average(images.cpu().numpy(), side)).to(device)
        logits = network(global_contrast_normalize(small, data.gcn))
        return inputs.pop(), logits

    return Extractor("classifier", f"classifier {directory.resolve()}", outputs, device, channels)


def _network(options: dict[str, object], side: int, weights: dict[str, Tensor]) -> tuple[nn.Module, int]:
    """The network with these weights in evaluation mode, and the channels of its images.

    Channels and classes are those of the first and of the last weight.
    """
    shapes = [tensor.shape for tensor in weights.values() if tensor.dim() > 1]
    channels, classes = shapes[0][1], shapes[-1][0]
    cls = MODELS[str(options["name"])]
    with forked_rng([]):  # new layers draw their weights
        network: nn.Module = cls(checked("model", cls.Config, options), channels, side, classes, None)
    network.load_state_dict(weights)
    return network.requires_grad_(False).eval(), channels
