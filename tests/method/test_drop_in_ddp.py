"""Drop-in classes under DistributedDataParallel: two processes over gloo train what one does."""

from pathlib import Path

import pytest
import torch
from drop_in_forms import FORMS, trained, worker
from torch.multiprocessing import spawn
from torch.testing import assert_close


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, list[torch.Tensor]]]:
    folder: Path = tmp_path_factory.mktemp("ddp")
    spawn(worker, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("form", FORMS)
def test_two_processes_train_what_one_does(two: list[dict[str, list[torch.Tensor]]], form: str) -> None:
    """pytorch 113415: DDP, torch.compile and a parametrised weight together."""
    torch._dynamo.reset()
    alone = trained(form, 0, 1)
    for one in two:
        assert_close(one[form], alone, rtol=1e-10, atol=1e-12)
