"""Joining the processes that torchrun has started for one run."""

import atexit
import os
from datetime import timedelta

import torch.distributed as dist

from sns.common import accelerator
from sns.common.ranks import ALONE, Ranks
from sns.train.device import choose_device

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
        there = accelerator.of(choose_device(device, ranks.local))
        there.select()
        dist.init_process_group(there.backend, timeout=TIMEOUT)
        atexit.register(dist.destroy_process_group)  # its threads must not outlive the interpreter
    return ranks
