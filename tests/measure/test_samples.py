"""Scores of generated images by name, and the picture of samples."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from sns.measure import samples
from sns.measure.features import Extractor, from_bytes, to_bytes
from sns.measure.frechet import Moments, class_score, frechet_distance
from sns.measure.pretrained import Unavailable
from sns.measure.samples import CLASSIFIER_COLUMNS, NAMES, SampleScores, ScoreOptions, grid

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {"samples": 40, "real_samples": 60, "repeats": 3}


def images(n: int, seed: int) -> Tensor:
    return 2 * torch.rand(n, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) - 1


def linear(seed: int) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    weight = torch.randn(48, 5, generator=torch.Generator().manual_seed(seed)) / 100

    def outputs(x: Tensor) -> tuple[Tensor, Tensor]:
        features = x.flatten(1).float() @ weight
        return features, features[:, :3]

    return outputs


@pytest.fixture(autouse=True)
def networks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Linear maps in place of the networks."""

    def made(name: str, seed: int, logits: bool = True) -> Callable[..., Extractor]:
        def outputs(x: Tensor) -> tuple[Tensor, Tensor | None]:
            features, classes = linear(seed)(x)
            return features, classes if logits else None

        return lambda *_: Extractor(name, name, outputs, CPU, 3)

    monkeypatch.setattr(samples, "classifier", made("classifier", 1))
    monkeypatch.setattr(samples, "imagenet", made("imagenet", 2, logits=False))
    monkeypatch.setattr(samples, "inception", made("inception", 3))
    samples._known.clear()
    yield
    samples._known.clear()


def distance(seed: int, a: Tensor, b: Tensor) -> float:
    both = []
    for x in (a, b):
        moments = Moments()
        moments.add(linear(seed)(to_bytes(x))[0])
        both.append(moments.gaussian())
    return frechet_distance(*both)


class Sample:
    """A fixed sequence of images, and how many were asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, count: int) -> Tensor:
        self.asked.append(count)
        return images(120, 7)[:count]


def test_every_score_and_the_images_it_is_computed_from() -> None:
    real, sample = images(60, 0), Sample()
    scorer = SampleScores(ScoreOptions(classifier="x", inception="auto", **SMALL), real, CPU)
    scores = scorer.scores(sample)
    assert sample.asked == [120]
    made = images(120, 7)
    score, deviation = class_score(linear(3)(to_bytes(made))[1], 3)
    assert deviation is not None
    assert scores == {
        "classifier_frechet": pytest.approx(distance(1, real, made[:40])),
        "classifier_score": pytest.approx(class_score(linear(1)(to_bytes(made[:40]))[1])[0]),
        "imagenet_frechet": pytest.approx(distance(2, real, made[:40])),
        "fid": pytest.approx(distance(3, real, made[:40])),
        "inception_score": pytest.approx(score),
        "inception_score_sd": pytest.approx(deviation),
    }
    assert tuple(scores) == NAMES


def test_during_training_the_classifier_alone_is_asked() -> None:
    scorer, sample = SampleScores(ScoreOptions(classifier="x", inception="auto", **SMALL), images(60, 0), CPU), Sample()
    scores = scorer.classifier_scores(sample)
    assert sample.asked == [40]
    assert list(scores) == [column.name for column in CLASSIFIER_COLUMNS]
    assert scores["classifier_frechet"] == pytest.approx(distance(1, images(60, 0), images(120, 7)[:40]))


def test_a_network_that_is_not_there_gives_null_and_one_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: Any) -> Extractor:
        raise Unavailable("not here")

    monkeypatch.setattr(samples, "imagenet", absent)
    scorer, sample = SampleScores(ScoreOptions(classifier="x", **SMALL), images(60, 0), CPU), Sample()
    assert scorer.notes == ["not here"]
    scores = scorer.scores(sample)
    assert sample.asked == [40]
    assert {name for name, value in scores.items() if value is None} == {
        "imagenet_frechet",
        "fid",
        "inception_score",
        "inception_score_sd",
    }
    nothing = SampleScores(ScoreOptions(imagenet=False, **SMALL), images(60, 0), CPU)
    assert nothing.classifier_scores(sample) == {}
    assert nothing.scores(sample) == dict.fromkeys(NAMES)


def test_grey_images_have_no_scores_of_networks_for_colour() -> None:
    scorer = SampleScores(ScoreOptions(**SMALL), images(60, 0)[:, :1], CPU)
    assert scorer.notes == ["no imagenet scores: images have 1 channels"]
    assert scorer.scores(lambda n: images(n, 1)[:, :1]) == dict.fromkeys(NAMES)


def test_samples_that_are_not_finite_score_nan() -> None:
    scorer, bad = SampleScores(ScoreOptions(classifier="x", **SMALL), images(60, 0), CPU), images(40, 1)
    bad[3, 0, 0, 0] = torch.nan
    values = [scorer.scores(lambda n: bad)["imagenet_frechet"], *scorer.classifier_scores(lambda n: bad).values()]
    assert all(value is not None and math.isnan(value) for value in values)


def test_statistics_of_real_images_are_computed_once_for_a_set(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    monkeypatch.setattr(samples, "_measure", lambda e, x, f=samples._measure: made.append(len(x)) or f(e, x))
    options = ScoreOptions(imagenet=False, classifier="x", **SMALL)
    for real in (images(60, 0), images(60, 0), images(60, 1)):
        scorer = SampleScores(options, real, CPU)
        for _ in range(2):
            scorer.classifier_scores(Sample())
    assert made.count(60) == 2
    assert made.count(40) == 6


def test_the_picture_shows_the_first_64(tmp_path: Path) -> None:
    x = images(70, 3)
    grid(x, tmp_path / "samples.png")
    with Image.open(tmp_path / "samples.png") as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (40, 40, 3)
    assert (pixels[45 // 8 * 5 : 45 // 8 * 5 + 4, 5 * 5 : 5 * 5 + 4] == to_bytes(x)[45].permute(1, 2, 0).numpy()).all()
    assert (pixels[4::5] == 255).all()
    assert (pixels[:, 4::5] == 255).all()
    grid(x[:3, :1], tmp_path / "grey.png")
    with Image.open(tmp_path / "grey.png") as picture:
        pixels = np.asarray(picture)
    assert (pixels[:4, 10:14] == to_bytes(x)[2, 0].numpy()).all()
    assert (pixels[5:] == 255).all()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["grey.png", "samples.png"]


def test_real_images_survive_as_bytes() -> None:
    x = torch.randint(0, 256, (50, 3, 4, 4), dtype=torch.uint8)
    assert torch.equal(SampleScores(ScoreOptions(imagenet=False), from_bytes(x), CPU).real, x)
