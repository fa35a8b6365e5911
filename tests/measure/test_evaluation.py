"""Means over unequal batches, and input gradients against one pass an image."""

from collections.abc import Callable
from dataclasses import astuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from sns.measure.evaluation import (
    Evaluation,
    _loss_and_correct,
    accuracy,
    evaluate,
    gradient_norms,
    probe_indices,
    quantiles,
)


class Margin(nn.Module):
    """Logits (0, m) for m (N, 1), so that the loss of label 0 tends to m as m grows."""

    def forward(self, margin: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(margin), margin], dim=1)


Alone = Callable[[nn.Module, Tensor, Tensor], Tensor]


@pytest.mark.parametrize("batch_size", [1, 5, 7, 23, 100])
@pytest.mark.parametrize("sample", [None, [0, 3, 4, 9, 22], list(range(23))])
def test_means_are_over_all_images_whatever_the_batches(
    batch_size: int, sample: list[int] | None, model: nn.Module, x: Tensor, y: Tensor, alone: Alone
) -> None:
    chosen = list(range(len(x))) if sample is None else sample
    norms = alone(model, x[chosen], y[chosen])
    logits = model.eval()(x)
    expected = Evaluation(
        F.cross_entropy(logits, y).item(),
        (logits.argmax(1) == y).double().mean().item(),
        norms.mean().item(),
        norms.square().mean().sqrt().item(),
    )
    model.train()
    result = evaluate(model, x, y, batch_size, None if sample is None else torch.tensor(sample))
    assert_close(astuple(result), astuple(expected), rtol=1e-12, atol=0)


@pytest.mark.parametrize("batch_size", [1, 6, 50])
def test_gradient_norms_are_those_of_each_image_alone(
    batch_size: int, model: nn.Module, x: Tensor, y: Tensor, alone: Alone
) -> None:
    norms = gradient_norms(model, x, y, batch_size)
    assert norms.dtype == torch.float64
    assert_close(norms, alone(model, x, y), rtol=1e-12, atol=0)


def test_evaluation_works_inside_no_grad(model: nn.Module, x: Tensor, y: Tensor) -> None:
    expected = evaluate(model, x, y, 6, None)
    with torch.no_grad():
        assert evaluate(model, x, y, 6, None) == expected


def test_bf16_is_for_images_without_a_gradient(model: nn.Module, x: Tensor, y: Tensor) -> None:
    model, x, sample = model.float(), x.float(), torch.tensor([1, 4])
    logits = []
    model.head.register_forward_hook(lambda _m, _i, out: logits.append((len(out), out.dtype)))
    exact, near = (evaluate(model, x, y, 50, sample, precision) for precision in ("fp32", "bf16"))
    others = len(x) - len(sample)
    assert logits[2:] == [(2, torch.float32), (others, torch.bfloat16)]
    assert (exact.gradient_norm, exact.gradient_norm_rms) == (near.gradient_norm, near.gradient_norm_rms)
    assert exact.loss != near.loss == pytest.approx(exact.loss, rel=0.02)
    logits.clear()
    assert accuracy(model, x, y, 50, "bf16") == pytest.approx(accuracy(model, x, y, 50), abs=0.1)
    assert [dtype for _, dtype in logits] == [torch.bfloat16, torch.float32]


def test_losses_of_bf16_logits_are_summed_in_fp32(y: Tensor) -> None:
    """A cross entropy in bf16 would have three digits."""
    logits = torch.randn(len(y), 3).bfloat16()
    loss, _ = _loss_and_correct(logits, y)
    assert_close(loss, F.cross_entropy(logits.float(), y, reduction="none"))


@pytest.mark.parametrize("batch_size", [1, 5_000])
def test_sums_of_many_small_numbers_keep_their_digits(batch_size: int) -> None:
    """One loss of 2^30 and then 20s, which a float32 sum would drop or round."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 1, bias=False), Margin())
    nn.init.ones_(model[1].weight)
    x = torch.full((4_000, 1, 1, 1), 20.0)
    x[0] = 2.0**30
    y = torch.zeros(len(x), dtype=torch.long)
    expected = x.double().mean().item()
    assert_close(evaluate(model, x, y, batch_size, None).loss, expected, rtol=1e-9, atol=0)
    assert_close(evaluate(model, x, y, batch_size, torch.tensor([1])).loss, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("n", "labels", "batch_size", "sample", "message"),
    [
        (0, 0, 5, None, "0 images"),
        (4, 3, 5, None, "4 images and 3 labels"),
        (4, 4, 0, None, "batch_size=0"),
        (4, 4, 5, [], "at least one"),
        (4, 4, 5, [1, 1], "none twice"),
    ],
)
def test_what_cannot_be_averaged_is_refused(
    n: int, labels: int, batch_size: int, sample: list[int] | None, message: str, model: nn.Module, x: Tensor, y: Tensor
) -> None:
    indices = None if sample is None else torch.tensor(sample, dtype=torch.long)
    with pytest.raises(ValueError, match=message):
        evaluate(model, x[:n], y[:labels], batch_size, indices)


def test_probe_is_the_same_for_every_run() -> None:
    first = probe_indices(1000, 10)
    torch.rand(1)
    assert torch.equal(first, probe_indices(1000, 10))
    assert torch.equal(first, first.unique(sorted=True))
    assert len(first) == 10
    assert 0 <= int(first.min()) < 500 < int(first.max()) < 1000
    assert torch.equal(probe_indices(5, 5), torch.arange(5))
    assert torch.equal(probe_indices(5, 99), torch.arange(5))


def test_quantiles_are_numpys() -> None:
    values = torch.rand(101, generator=torch.Generator().manual_seed(0))
    result = quantiles(values)
    assert list(result) == ["0.05", "0.25", "0.5", "0.75", "0.95", "1.0"]
    expected = np.quantile(values.double().numpy(), [float(level) for level in result])
    assert_close(list(result.values()), expected.tolist(), rtol=1e-12, atol=0)
    assert quantiles(values, (0.1,))["0.1"] == np.quantile(values.double().numpy(), 0.1)
