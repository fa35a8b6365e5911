"""TensorFloat-32 is used where it was asked for and nowhere else."""

import pytest
import torch

from sns.common.precision import full_precision, training_precision


def switches() -> tuple[bool, bool]:
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize(("name", "allowed"), [("fp32", False), ("tf32", True), ("bf16", False)])
def test_only_tf32_allows_tf32(name: str, allowed: bool) -> None:
    """In bf16 the penalty and every measurement are outside autocast and stay true fp32."""
    before = switches()
    with training_precision(name):
        assert switches() == (allowed, allowed)
        with full_precision(torch.device("cuda:0")):
            assert switches() == (False, False)
        assert switches() == (allowed, allowed)
    assert switches() == before
