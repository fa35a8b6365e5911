"""Moments, Frechet distance and class score against formulas, scipy and torch-fidelity."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from sns.measure.frechet import Gaussian, Moments, class_score, frechet_distance


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gaussian(features: Tensor, passes: int = 1) -> Gaussian:
    moments = Moments()
    for part in features.chunk(passes):
        moments.add(part)
    return moments.gaussian()


def normal(mean: list[float], covariance: list[list[float]]) -> Gaussian:
    return Gaussian(2, torch.tensor(mean).double(), torch.tensor(covariance).double())


@pytest.mark.parametrize("passes", [1, 3, 50])
def test_moments_are_those_of_all_features_at_once(passes: int) -> None:
    x = (draw(50, 4) @ draw(4, 4, seed=1) + 1e6).float()  # float32 sums of squares would keep no digit
    result = gaussian(x, passes)
    assert result.count == 50
    torch.testing.assert_close(result.mean, x.double().mean(dim=0), rtol=1e-14, atol=0)
    torch.testing.assert_close(result.covariance, torch.cov(x.double().T), rtol=1e-9, atol=1e-9)


def test_one_feature_has_no_covariance() -> None:
    moments = Moments()
    moments.add(draw(0, 3))
    moments.add(draw(1, 3))
    with pytest.raises(ValueError, match="at least 2 features, got 1"):
        moments.gaussian()


def test_in_one_dimension_it_is_that_of_means_and_deviations() -> None:
    """(1 - 3)^2 + (2 - 5)^2 for standard deviations 2 and 5."""
    assert frechet_distance(normal([1], [[4]]), normal([3], [[25]])) == pytest.approx(13, rel=1e-14)


def test_of_commuting_covariances_the_roots_are_subtracted() -> None:
    """Diagonal covariances: 1 + 4 + (1 - 3)^2 + (2 - 0)^2; rotating both changes nothing."""
    a, b = normal([0, 0], [[1, 0], [0, 4]]), normal([1, 2], [[9, 0], [0, 0]])
    assert frechet_distance(a, b) == pytest.approx(13, rel=1e-14)
    turn = torch.linalg.qr(draw(2, 2)).Q
    turned = [Gaussian(2, turn @ g.mean, turn @ g.covariance @ turn.T) for g in (a, b)]
    assert frechet_distance(*turned) == pytest.approx(13, rel=1e-12)


def by_sqrtm(a: Gaussian, b: Gaussian) -> float:
    root = scipy.linalg.sqrtm((a.covariance @ b.covariance).numpy())
    traces = a.covariance.trace() + b.covariance.trace()
    return float((a.mean - b.mean).square().sum() + traces) - 2 * float(np.trace(root).real)


def test_it_agrees_with_the_root_of_the_product() -> None:
    a, b = gaussian(draw(200, 20) @ draw(20, 20, seed=1)), gaussian(draw(300, 20, seed=2) @ draw(20, 20, seed=3) + 1)
    assert frechet_distance(a, b) == pytest.approx(by_sqrtm(a, b), rel=1e-10)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-12)


def test_covariances_without_full_rank() -> None:
    """Fewer features than dimensions: an orthonormal frame reduces it to the rank, exactly."""
    frame = torch.linalg.qr(draw(200, 12, seed=5)).Q
    low, high = draw(10, 12) * 100, draw(11, 12, seed=1) * 100 + 7
    small = frechet_distance(gaussian(low), gaussian(high))
    assert frechet_distance(gaussian(low @ frame.T), gaussian(high @ frame.T)) == pytest.approx(small, rel=1e-9)
    same = gaussian(low @ frame.T)
    assert frechet_distance(same, same) <= 1e-9 * float(same.covariance.trace())
    point = gaussian(torch.ones(3, 200).double())
    assert frechet_distance(point, point) == 0
    expected = float((same.mean - point.mean).square().sum() + same.covariance.trace())
    assert frechet_distance(same, point) == pytest.approx(expected, rel=1e-12)


def test_features_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="features of 2 and 1 numbers"):
        frechet_distance(normal([0, 0], [[1, 0], [0, 1]]), normal([0], [[1]]))


def test_the_class_score_lies_between_one_and_the_number_of_classes() -> None:
    certain = 1e3 * torch.eye(5)
    assert class_score(certain.repeat(7, 1)) == (pytest.approx(5, rel=1e-12), None)
    assert class_score(draw(1, 5).repeat(9, 1))[0] == pytest.approx(1, rel=1e-12)
    assert class_score(certain[:1].repeat(9, 1))[0] == pytest.approx(1, rel=1e-12)
    assert class_score(certain[:2].repeat(4, 1))[0] == pytest.approx(2, rel=1e-12)
    assert 1 < class_score(draw(100, 5))[0] < 5


def test_the_class_score_is_its_formula_in_each_part() -> None:
    logits = draw(12, 3).float()
    scores = []
    for part in logits.double().softmax(dim=1).numpy().reshape(4, 3, 3):
        marginal = part.mean(axis=0)
        scores.append(math.exp(np.mean([sum(p * np.log(p / marginal)) for p in part])))
    mean, deviation = class_score(logits, repeats=4)
    assert mean == pytest.approx(np.mean(scores), rel=1e-12)
    assert deviation == pytest.approx(np.std(scores, ddof=1), rel=1e-9)


@pytest.mark.parametrize(("n", "repeats"), [(0, 1), (10, 3), (2, 0)])
def test_unequal_parts_are_refused(n: int, repeats: int) -> None:
    with pytest.raises(ValueError, match="equal parts"):
        class_score(torch.zeros(n, 3), repeats)


def test_both_agree_with_torch_fidelity() -> None:
    fid = pytest.importorskip("torch_fidelity.metric_fid")
    isc = pytest.importorskip("torch_fidelity.metric_isc")
    x, y = draw(300, 20) @ draw(20, 20, seed=1), draw(400, 20, seed=2) + 0.5
    theirs = fid.fid_statistics_to_metric(*(fid.fid_features_to_statistics(z) for z in (x, y)), False)
    assert frechet_distance(gaussian(x), gaussian(y)) == pytest.approx(theirs[fid.KEY_METRIC_FID], rel=1e-9)
    theirs = isc.isc_features_to_metric(x, splits=10, shuffle=False)
    mean, deviation = class_score(x, repeats=10)
    assert mean == pytest.approx(theirs[isc.KEY_METRIC_ISC_MEAN], rel=1e-12)
    assert deviation == pytest.approx(theirs[isc.KEY_METRIC_ISC_STD] * math.sqrt(10 / 9), rel=1e-9)
