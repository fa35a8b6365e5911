"""Scores of generated images against real ones, and a picture of samples.

Names say which network they come from. Only features of the Inception network of 2015 give the FID
and the inception score; `classifier_*` and `imagenet_frechet` are for comparisons within this
project.
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from sns.common.files import atomic
from sns.config.schema import free, require
from sns.measure.evaluation import probe_indices
from sns.measure.features import Extractor, classifier, to_bytes
from sns.measure.frechet import Gaussian, Moments, class_score, frechet_distance
from sns.measure.pretrained import Unavailable, imagenet, inception
from sns.record.schema import Column

CLASSIFIER_COLUMNS = (  # of history.csv, where a classifier is given
    Column("classifier_frechet", "", "of test images and samples, by features of this project's classifier", "frechet"),
    Column("classifier_score", "", "exp of the mean KL(p(y|x) || p(y)) of that classifier on the same samples"),
)
OF = {  # names of the scores from each network
    "classifier": ("classifier_frechet", "classifier_score"),
    "imagenet": ("imagenet_frechet",),
    "inception": ("fid", "inception_score", "inception_score_sd"),
}
NAMES = tuple(name for names in OF.values() for name in names)
ROWS = 8  # of the picture, and columns


@dataclass
class ScoreOptions:
    """How generated images are scored. The numbers are the paper's."""

    classifier: str | None = free(None)  # run directory of a classifier, from experiment=sngan_classifier
    imagenet: bool = free(True)  # Frechet distance of ImageNet features, where their package is installed
    inception: str | None = free(None)  # FID and inception score: auto (download) or a file of weights; None: neither
    samples: int = 5_000  # generated images of a score
    real_samples: int = 10_000  # real test images of a Frechet distance
    repeats: int = 10  # of the inception score, each with `samples` other images

    def __post_init__(self) -> None:
        for key in ("samples", "real_samples"):
            require(getattr(self, key) >= 2, f"task.{key}={getattr(self, key)} must be at least 2")
        require(self.repeats >= 1, f"task.repeats={self.repeats} must be at least 1")


class SampleScores:
    """The networks that score, loaded once, and the statistics of the real images, computed once.

    `notes` has a sentence for each score that was asked for and cannot be had here.
    """

    def __init__(self, options: ScoreOptions, real: Tensor, device: torch.device) -> None:
        """`real`: test images (N, C, S, S) in [-1, 1], of which at most `options.real_samples` are
        used. UserError, one sentence, for a missing classifier or file of weights."""
        self.options = options
        self.real = to_bytes(real[probe_indices(len(real), options.real_samples, real.device)]).cpu()
        self.notes: list[str] = []
        self.extractors: dict[str, Extractor] = {}
        if options.classifier is not None:
            directory = Path(options.classifier).expanduser()
            self._add(lambda: classifier(directory, device))
        if options.imagenet:
            self._add(lambda: imagenet(device))
        if options.inception is not None:
            weights = options.inception
            self._add(lambda: inception(weights, device))

    def _add(self, make: Callable[[], Extractor]) -> None:
        try:
            extractor = make()
        except Unavailable as reason:
            self.notes.append(str(reason))
            return
        if extractor.channels != self.real.shape[1]:
            self.notes.append(f"no {extractor.name} scores: images have {self.real.shape[1]} channels")
            return
        self.extractors[extractor.name] = extractor

    def classifier_scores(self, sample: Callable[[int], Tensor]) -> dict[str, float]:
        """A value for each of `CLASSIFIER_COLUMNS`, to be measured during training; {} without a
        classifier. `sample`: as in `scores`."""
        if "classifier" not in self.extractors:
            return {}
        images = _bytes_of(sample(self.options.samples))
        scores = self._of(self.extractors["classifier"], images)
        return {column.name: scores[column.name] for column in CLASSIFIER_COLUMNS}

    def scores(self, sample: Callable[[int], Tensor]) -> dict[str, float | None]:
        """A value for each of `NAMES`: None where its network is not there, NaN where a sample is
        not finite.

        `sample(n)`: n generated images (n, C, S, S) in [-1, 1] on any device. It is called once,
        with `samples`, or `samples` times `repeats` where the inception score is measured.
        """
        count = self.options.samples * (self.options.repeats if "inception" in self.extractors else 1)
        images = _bytes_of(sample(count)) if self.extractors else None
        scores: dict[str, float | None] = dict.fromkeys(NAMES)
        for extractor in self.extractors.values():
            scores |= self._of(extractor, images)
        return scores

    def _of(self, extractor: Extractor, images: Tensor | None) -> dict[str, float]:
        """The scores from one network; NaN without images.

        The Frechet distance is that of the first `samples` images.
        """
        names = OF[extractor.name]
        if images is None:
            return dict.fromkeys(names, math.nan)
        gaussian, logits = _measure(extractor, images[: self.options.samples])
        values = [frechet_distance(gaussian, self._statistics(extractor))]
        if extractor.name == "inception":
            rest = [part for _, part in extractor.passes(images[self.options.samples :]) if part is not None]
            mean, deviation = class_score(torch.cat([*logits, *rest]), self.options.repeats)
            values += [mean, math.nan if deviation is None else deviation]
        elif logits:
            values.append(class_score(torch.cat(logits))[0])
        return dict(zip(names, values, strict=True))

    def _statistics(self, extractor: Extractor) -> Gaussian:
        """Of the real images: computed once in this process for each network and set of images, on
        the host like those of samples."""
        key = f"{extractor.key} {hashlib.blake2b(self.real.numpy().tobytes()).hexdigest()}"
        if key not in _known:
            _known[key] = _measure(extractor, self.real)[0]
        return _known[key]


_known: dict[str, Gaussian] = {}  # statistics of real images, which the runs of a sweep share


def _measure(extractor: Extractor, images: Tensor) -> tuple[Gaussian, list[Tensor]]:
    """The moments of the features of images (N, C, S, S) uint8, and their logits where there are
    any, pass by pass, on the host."""
    moments, logits = Moments(), []
    for features, classes in extractor.passes(images):
        moments.add(features.cpu())
        logits += [] if classes is None else [classes.cpu()]
    return moments.gaussian(), logits


def _bytes_of(images: Tensor) -> Tensor | None:
    """uint8 images on the host; None if a value is not finite."""
    parts = images.split(1000)  # 50,000 images in float32 are a gigabyte: no further copies of all
    return torch.cat([to_bytes(part).cpu() for part in parts]) if all(p.isfinite().all() for p in parts) else None


def grid(images: Tensor, file: Path) -> None:
    """Writes the first 64 of images (N, C, S, S) in [-1, 1], C 1 or 3, as a PNG of 8 x 8, each with
    a white line to its right and below. The file is complete or absent."""
    from PIL import Image

    shown = to_bytes(images[: ROWS * ROWS].nan_to_num()).cpu()
    missing = ROWS * ROWS - len(shown)
    cells = F.pad(shown, (0, 1, 0, 1, 0, 0, 0, missing), value=255)
    channels, side = cells.shape[1:3]
    table = cells.view(ROWS, ROWS, channels, side, side).permute(0, 3, 1, 4, 2).reshape(ROWS * side, ROWS * side, -1)
    picture = Image.fromarray((table if channels == 3 else table.squeeze(2)).numpy())
    with atomic(file) as temporary:
        picture.save(temporary, format="PNG", optimize=True)
