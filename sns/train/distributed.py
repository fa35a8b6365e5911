"""Joining the processes that torchrun has started for one run."""

import atexit
import os
from datetime import timedelta

import torch
import torch.distributed as dist

from sns.common.errors import UserError
from sns.common.ranks import ALONE, Ranks

PATIENCE = timedelta(hours=24)  # the others wait while the first rank measures; torchrun ends them if it dies


def join(device: str = "auto") -> Ranks:
    """The ranks that torchrun, or whoever sets the same environment, has started; alone without it.

    UserError where a GPU is missing for one of them.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1 or "RANK" not in os.environ or "MASTER_ADDR" not in os.environ:
        return ALONE
    ranks = Ranks(int(os.environ["RANK"]), world, int(os.environ.get("LOCAL_RANK", "0")))
    if not dist.is_initialized():
        cuda = device != "cpu" and torch.cuda.is_available()
        if cuda:
            if ranks.local >= torch.cuda.device_count():
                found = torch.cuda.device_count()
                raise UserError(f"process {ranks.local} (from 0) of this machine finds {found} GPUs: start fewer")
            torch.cuda.set_device(ranks.local)
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=PATIENCE)
        atexit.register(dist.destroy_process_group)  # its threads must not outlive the interpreter
    return ranks
