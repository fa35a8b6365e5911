"""One run over several processes, each with its own device: the same mathematics as one process.

Every rank draws the same global batch and takes its contiguous part of it, whole batch-norm groups. After all passes of
an update one sum over the ranks makes gradients and running statistics what one process would have; from there on the
ranks compute the same, so weights, momentum and the method's state stay identical. Dropout masks differ by rank.
"""

import atexit
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sns.config import BatchConfig
from sns.errors import UserError
from sns.model.ghost_norm import MOMENTUM, GhostBatchNorm2d

T = TypeVar("T")
PATIENCE = timedelta(hours=24)  # the others wait while the first rank measures; torchrun ends them if it dies


@dataclass(frozen=True)
class Ranks:
    """This process's place among those of the run. Alone, every method is the identity and talks to nobody."""

    rank: int = 0
    world: int = 1
    local: int = field(default=0, compare=False)  # place on its own machine: the number of its GPU

    @property
    def first(self) -> bool:
        """Whether this process writes the records."""
        return self.rank == 0

    def bounds(self, n: int) -> tuple[int, int]:
        """The part [start, stop) of n things that is this rank's."""
        return self.rank * n // self.world, (self.rank + 1) * n // self.world

    def part(self, batch: BatchConfig) -> int:
        """Images of an update that fall to each rank; UserError where batch-norm groups would be torn."""
        if self.world == 1:
            return batch.size
        if batch.size % self.world or batch.ghost is None or (batch.size // self.world) % batch.ghost:
            raise UserError(
                f"batch.size={batch.size} with batch.ghost={batch.ghost} cannot be shared by {self.world} processes: "
                "each needs the same number of whole batch-norm groups; choose another number of processes"
            )
        return batch.size // self.world

    def most(self, value: int) -> int:
        """The largest `value` of all ranks. On the host: nothing waits for the device."""
        if self.world == 1:
            return value
        seen = torch.tensor(value)
        dist.all_reduce(seen, dist.ReduceOp.MAX)
        return int(seen)

    def sums(self, values: Sequence[float]) -> list[float]:
        """Element by element, in float64."""
        if self.world == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total)
        return list(total.tolist())

    def from_first(self, make: Callable[[], T]) -> T:
        """What `make` gives on the first rank, on all of them; only there it is called."""
        if self.world == 1:
            return make()
        box = [make() if self.first else None]
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return box[0]  # type: ignore[return-value]

    def gather(self, value: Tensor) -> list[Tensor]:
        """`value` of every rank, on the CPU; equal shapes."""
        if self.world == 1:
            return [value]
        everyone = [torch.empty_like(value, device="cpu") for _ in range(self.world)]
        dist.all_gather(everyone, value.cpu())
        return everyone

    def require_equal(self, model: nn.Module) -> None:
        """RuntimeError if the weights have come apart: then something is wrong with the machines or with us."""
        if self.world > 1:
            mark = torch.stack([p.detach().double().sum() for p in model.parameters()]).nan_to_num(7e77).cpu()
            if any(not torch.equal(mark, other) for other in self.gather(mark)):
                raise RuntimeError("the processes' weights differ: go on from the checkpoint with the same command")


ALONE = Ranks()


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


class Exchange:
    """The one sum over the ranks that an update needs: gradients, sums of the running metrics, running statistics.

    The running statistics move once a group, r <- (1 - m) r + m s. With K groups on each of W ranks, all of which
    started from r0, rank i holds r_i = (1 - m)^K r0 + c_i, and one process would hold
    (1 - m)^(K W) r0 + sum over i of (1 - m)^(K (W - 1 - i)) c_i.
    """

    def __init__(self, ranks: Ranks, model: nn.Module, groups: int) -> None:
        """`groups`: batch-norm groups of an update on each rank."""
        self.ranks = ranks
        self.parameters = list(model.parameters())
        norms = [module for module in model.modules() if isinstance(module, GhostBatchNorm2d)]
        self.statistics = [b for n in norms for b in (n.running_mean, n.running_var) if b is not None]
        keep = 1.0 - MOMENTUM
        self.own, self.all = keep**groups, keep ** (groups * ranks.world)
        self.later = keep ** (groups * (ranks.world - 1 - ranks.rank))

    def begin(self) -> list[Tensor]:
        """r0, before the passes of an update."""
        return [] if self.ranks.world == 1 else [b.clone() for b in self.statistics]

    @torch.no_grad()
    def end(self, before: list[Tensor], loss: Tensor, correct: Tensor) -> tuple[Tensor, Tensor]:
        """After them: `.grad` and running statistics in place; loss and correct, (), summed over the ranks."""
        if self.ranks.world == 1:
            return loss, correct
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        added = [(r - self.own * r0) * self.later for r, r0 in zip(self.statistics, before, strict=True)]
        flat = torch.cat([t.reshape(-1) for t in (*gradients, *added)])
        dist.all_reduce(flat)
        parts = flat.split([t.numel() for t in (*gradients, *added)])
        for gradient, part in zip(gradients, parts, strict=False):
            gradient.copy_(part.view(gradient.shape))
        for r, r0, part in zip(self.statistics, before, parts[len(gradients) :], strict=True):
            r.copy_(self.all * r0 + part.view(r.shape))
        seen = torch.stack([loss.double(), correct.double()])
        dist.all_reduce(seen)
        return seen[0], seen[1].long()
