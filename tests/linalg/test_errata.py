"""The demonstrations of the errata; tests/test_reproduction_doc.py checks their digits."""

import pytest

from sns.linalg import errata


@pytest.mark.parametrize("sigma_1", [1.30, 0.67])
def test_algorithm_1_as_printed_tends_to_the_inverse_and_explodes_or_vanishes(sigma_1: float) -> None:
    rows = errata.algorithm_1(sigma_1, 10)
    assert rows[-1].printed_sigma == pytest.approx(1 / sigma_1, rel=1e-3)
    assert rows[-1].corrected_excess == pytest.approx(1, rel=1e-3)
    growth = rows[9].printed_excess / rows[8].printed_excess
    assert growth == pytest.approx(sigma_1**4, rel=0.1)


def test_only_half_of_lambda_gives_the_gradients_of_the_text() -> None:
    assert list(errata.gradient_ratios().values()) == pytest.approx([1, 2, 100, 1], rel=1e-6)


def test_both_reshapes_hold_the_same_numbers() -> None:
    """About 1 + sqrt(out / (9 in)), and the root of a third of the sum of squares."""
    right, wrong = errata.reshaped_norms(64, 32)
    assert right == pytest.approx(1 + (64 / 288) ** 0.5, rel=0.05)
    assert wrong == pytest.approx((64 / 3) ** 0.5, rel=0.05)


def test_equal_taps_attain_the_root_of_nine() -> None:
    norms = errata.kernel_norms(errata.flat_kernel())
    assert norms.circular == pytest.approx(3 * norms.reshaped, rel=1e-12)
    assert 2.9 * norms.reshaped < norms.zero_padded < norms.circular


def test_reshaped_norms_do_not_bound_and_true_ones_do() -> None:
    bound = errata.product_bound()
    assert 5 * bound.reshaped < bound.measured <= bound.zero_padded


def test_the_pre_activation_gives_the_jacobian_and_the_input_does_not() -> None:
    jacobians = errata.piecewise_jacobians()
    assert jacobians.by_preactivation == jacobians.true != jacobians.by_input


def test_steps_have_the_lengths_of_their_definitions() -> None:
    steps = errata.adversarial_steps(images=4)
    assert steps.l2 == pytest.approx(1)
    assert steps.sign == pytest.approx(3072**0.5)
    assert steps.image == pytest.approx(3072**0.5)
    assert steps.loss < steps.loss_sign_shortened < steps.loss_l2 < steps.loss_sign


def test_a_persistent_iteration_underestimates_more_at_a_higher_rate() -> None:
    slow, fast = (errata.persistent_iteration(rate, updates=400) for rate in (1e-3, 1e-2))
    assert 0 < slow.short < fast.short < 0.3
    assert slow.rank_before < slow.rank_after < 64
