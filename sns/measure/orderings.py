"""Do scores of images order what has a known order? Real images are made worse in growing steps."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from sns.common.seed import generator
from sns.data.dataset import Dataset
from sns.measure.features import from_bytes, to_bytes
from sns.measure.samples import SampleScores, ScoreOptions

REAL = "real"
NOISE = (5, 20, 50)  # standard deviation, in grey levels
BLUR = (32, 16, 8)  # image side over the standard deviation of a Gaussian
CLASSES = (0.9, 0.5, 0.2, 0.1)  # share of the classes left
DISTINCT = (0.2, 0.02, 0.002)  # share of different images left, the others being repetitions
DISTANCES = ("classifier_frechet", "imagenet_frechet")
COLUMNS = ("side", "kind", "step", "level", "classifier_frechet", "imagenet_frechet", "classifier_score")


@dataclass(frozen=True)
class Step:
    """Images (N, C, S, S) in [-1, 1]. `level`: grey levels, pixels, classes or different images."""

    kind: str
    step: int
    level: float
    images: Tensor


def steps(x: Tensor, y: Tensor, count: int) -> Iterator[Step]:
    """Ever worse sets of `count` images from x (N, C, S, S) in [-1, 1] with labels y (N,).

    Each kind begins with step 1; step 0, of kind `REAL`, is what all of them are made from. Classes
    are dropped from the last one on, and those left have as many images as before in total, as far
    as x goes.
    """
    draw = generator(0, "probe")
    order = torch.randperm(len(x), generator=draw)
    x, y = x[order], y[order]
    real, side, classes = x[:count], x.shape[-1], int(y.max()) + 1
    yield Step(REAL, 0, 0, real)
    for step, level in enumerate(NOISE, 1):
        noise = torch.randn(real.shape, generator=draw) * level
        yield Step("noise", step, level, from_bytes((to_bytes(real) + noise).round().clamp(0, 255)))
    for step, parts in enumerate(BLUR, 1):
        yield Step("blur", step, side / parts, blurred(real, side / parts))
    for step, share in enumerate(CLASSES, 1):
        left = max(1, round(share * classes))
        yield Step("classes", step, left, x[y < left][:count])
    for step, share in enumerate(DISTINCT, 1):
        left = max(1, round(share * len(real)))
        yield Step("distinct", step, left, real[torch.arange(len(real)) % left])


def blurred(images: Tensor, deviation: float) -> Tensor:
    """Images (N, C, S, S) convolved with a Gaussian of `deviation` pixels, edges repeated."""
    reach = max(1, round(3 * deviation))
    weights = torch.exp(-(torch.arange(-reach, reach + 1) ** 2) / (2 * deviation**2))
    weights /= weights.sum()
    channels = images.shape[1]
    padded = F.pad(images, (reach, reach, reach, reach), mode="replicate")
    rows = F.conv2d(padded, weights.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
    return F.conv2d(rows, weights.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)


def measure(options: ScoreOptions, images: Dataset, device: torch.device) -> Iterator[dict[str, object]]:
    """Rows of `COLUMNS`: each step from training images against the test images, and one half of
    the test images against the other (kind `REAL`, step -1).

    `images` must have pixels in [0, 1], without contrast normalization.
    """
    train, test = (from_bytes((split.x * 255).round()) for split in (images.train, images.test))
    halves = [half.contiguous() for half in (test[::2], test[1::2])]
    half = replace(options, samples=min(len(halves[1]), options.samples))
    yield _row(SampleScores(half, halves[0], device), Step(REAL, -1, 0, halves[1]))
    against_test = SampleScores(options, test, device)
    for step in steps(train, images.train.y, options.samples):
        yield _row(against_test, step)


def _row(scorer: SampleScores, step: Step) -> dict[str, object]:
    scores = scorer.scores(lambda count: step.images[:count])
    place = {"side": step.images.shape[-1], "kind": step.kind, "step": step.step, "level": step.level}
    return {name: value for name, value in (place | scores).items() if name in COLUMNS}


def orders(rows: Sequence[dict[str, object]]) -> dict[tuple[int, str, str], bool]:
    """(side, kind, distance) to whether the distance grows with each step, from step 0 on.

    For kind `REAL`: whether step 0 is less than any later step. Distances not measured are left
    out.
    """
    found: dict[tuple[int, str, str], bool] = {}
    kinds = dict.fromkeys((int(str(row["side"])), str(row["kind"])) for row in rows)
    for (side, kind), name in ((place, name) for place in kinds for name in DISTANCES):
        here = [row for row in rows if row["side"] == side and row[name] is not None]
        values = [float(str(row[name])) for row in here if row["step"] == 0 or row["kind"] == kind != REAL]
        later = [float(str(row[name])) for row in here if int(str(row["step"])) > 0]
        if values:
            right = values[0] < min(later) if kind == REAL else all(a < b for a, b in pairwise(values))
            found[side, kind, name] = right
    return found
