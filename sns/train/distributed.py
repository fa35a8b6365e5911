"""Joining the processes that torchrun has started for one run."""

import atexit
import os
from datetime import timedelta

import torch
import torch.distributed as dist

from sns.common.errors import UserError
from sns.common.ranks import ALONE, Ranks

TIMEOUT = timedelta(hours=24)  # the others wait while the first rank measures; torchrun ends them if it dies


def join(device: str = "auto") -> Ranks:
    """This process's rank, from the environment variables that torchrun sets; ALONE without them.

    UserError if there is no GPU for this process.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1 or "RANK" not in os.environ or "MASTER_ADDR" not in os.environ:
        return ALONE
    ranks = Ranks(int(os.environ["RANK"]), world, int(os.environ.get("LOCAL_RANK", "0")))
    if not dist.is_initialized():
        cuda = device != "cpu" and torch.cuda.is_available()
        if cuda:
            if ranks.local >= torch.cuda.device_count():
                count = torch.cuda.device_count()
                raise UserError(f"process {ranks.local} (from 0) of this machine finds {count} GPUs: start fewer")
            torch.cuda.set_device(ranks.local)
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=TIMEOUT)
        atexit.register(dist.destroy_process_group)  # its threads must not outlive the interpreter
    return ranks
