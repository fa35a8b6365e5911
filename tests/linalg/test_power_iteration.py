"""Power iteration against the SVD in float64; the printed algorithm against the corrected one."""

import pytest
import torch
from torch.testing import assert_close

from sns.linalg.power_iteration import (
    PaddedStack,
    group_by_rows,
    literal_algorithm_1,
    power_iteration,
    random_unit_vectors,
)

SHAPES = [(10, 64), (64, 10), (16, 3 * 9), (12, 16 * 9), (7, 7)]


def matrix(shape: tuple[int, int], seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def start(n: int) -> torch.Tensor:
    return random_unit_vectors([n], torch.Generator().manual_seed(1))[0].double()


@pytest.mark.parametrize("shape", SHAPES)
def test_converges_to_the_leading_singular_triple(shape: tuple[int, int]) -> None:
    w = matrix(shape)
    left, values, right = torch.linalg.svd(w, full_matrices=False)
    sigma, u, v = power_iteration(w, start(shape[1]), 3000)
    assert_close(sigma, values[0], rtol=1e-12, atol=0)
    sign = torch.sign(u @ left[:, 0])
    assert_close(u * sign, left[:, 0], rtol=0, atol=1e-6)
    assert_close(v * sign, right[0], rtol=0, atol=1e-6)


def test_vectors_are_unit_and_sigma_is_their_bilinear_form_from_below() -> None:
    w = matrix((12, 144))
    top = torch.linalg.svdvals(w)[0]
    for n in (1, 2, 5):
        sigma, u, v = power_iteration(w, start(144), n)
        assert_close(u.norm(), torch.tensor(1.0, dtype=torch.float64))
        assert_close(v.norm(), torch.tensor(1.0, dtype=torch.float64))
        assert_close(sigma, u @ w @ v)
        assert 0.5 * top < sigma <= top


def test_persistent_iterations_equal_one_long_iteration() -> None:
    w, v = matrix((12, 40)), start(40)
    for _ in range(5):
        sigma, _, v = power_iteration(w, v, 1)
    assert_close((sigma, v), power_iteration(w, start(40), 5)[::2])


def test_batched_equals_each() -> None:
    w, v = torch.stack([matrix((6, 9), s) for s in range(4)]), torch.stack([start(9)] * 4)
    for i, (sigma, u, new) in enumerate(zip(*power_iteration(w, v, 2), strict=True)):
        assert_close((sigma, u, new), power_iteration(w[i], v[i], 2))


def test_zero_matrix_gives_zero_and_no_nan() -> None:
    sigma, u, v = power_iteration(torch.zeros(3, 4), start(4).float())
    assert sigma == 0
    assert torch.isfinite(u).all()
    assert torch.isfinite(v).all()


def test_less_than_one_iteration_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        power_iteration(torch.eye(2), torch.ones(2), 0)


@pytest.mark.parametrize("top", [1.30, 0.67])
def test_algorithm_1_as_printed_differs(top: float) -> None:
    """Its sigma tends to 1 / sigma_1, and its rank-one term grows like sigma_1^(4n)."""
    w = matrix((64, 576))
    w *= top / torch.linalg.svdvals(w)[0]
    v0 = torch.randn(576, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    literal, _, _ = literal_algorithm_1(w, v0, 300 if top < 1 else 200)
    corrected, _, _ = power_iteration(w, v0 / v0.norm(), 3000)
    assert_close(corrected, torch.tensor(top, dtype=torch.float64), rtol=1e-6, atol=0)
    assert_close(literal, torch.tensor(1 / top, dtype=torch.float64), rtol=1e-3, atol=0)
    sigma, u, v = literal_algorithm_1(w, v0, 10)
    added = (sigma * u.norm() * v.norm()).item()
    assert added > 1e3 * top if top > 1 else added < 1e-1 * top


def test_padded_stack_changes_nothing() -> None:
    shapes = [(5, 9), (5, 6), (5, 7)]
    matrices = [matrix(s, i).float() for i, s in enumerate(shapes)]
    starts = [start(n).float() for _, n in shapes]
    stack = PaddedStack(shapes, torch.zeros(())).fill(matrices)
    padded = torch.nn.utils.rnn.pad_sequence(starts, batch_first=True)
    sigma, u, v = power_iteration(stack, padded, 3)
    for i, w in enumerate(matrices):
        alone = power_iteration(w, starts[i], 3)
        assert_close((sigma[i], u[i], v[i, : w.shape[1]]), alone)
        assert not v[i, w.shape[1] :].any()


def test_groups_share_rows_and_bound_the_padding() -> None:
    shapes = [(12, 144), (10, 64), (12, 252), (12, 4000), (64, 10), (12, 3000)]
    groups = group_by_rows(shapes, waste=2.0)
    assert sorted(i for group in groups for i in group) == list(range(len(shapes)))
    for group in groups:
        assert len({shapes[i][0] for i in group}) == 1
        widths = [shapes[i][1] for i in group]
        assert max(widths) <= 2.0 * min(widths)
    assert len(groups) == 4
    assert group_by_rows([(8, 20), (8, 16), (8, 12)], largest=8 * 16) == [[0], [1, 2]]  # a large one stays alone
