"""The processes that share one run: the rank of this one, and communication between them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sns.common.errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """The rank of this process. With one process every method is the identity."""

    rank: int = 0
    world: int = 1  # number of processes
    local: int = field(default=0, compare=False)  # rank on its own machine: the number of its GPU

    @property
    def first(self) -> bool:
        """Whether this process writes the records."""
        return self.rank == 0

    def bounds(self, n: int) -> tuple[int, int]:
        """The part [start, stop) of n items that belongs to this rank."""
        return self.rank * n // self.world, (self.rank + 1) * n // self.world

    def part(self, size: int, ghost: int | None) -> int:
        """Images of an update for each rank. UserError if a batch-norm group would be split."""
        if self.world == 1:
            return size
        if size % self.world or ghost is None or (size // self.world) % ghost:
            raise UserError(
                f"batch.size={size} with batch.ghost={ghost} cannot be shared by {self.world} processes: "
                "each needs the same number of whole batch-norm groups; choose another number of processes"
            )
        return size // self.world

    def maximum(self, value: int) -> int:
        """The largest `value` of all ranks. On the host: nothing waits for the device."""
        if self.world == 1:
            return value
        largest = torch.tensor(value)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return int(largest)

    def sums(self, values: Sequence[float]) -> list[float]:
        """The sum of each element over the ranks, in float64."""
        if self.world == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total)
        return list(total.tolist())

    def from_first(self, make: Callable[[], T]) -> T:
        """Calls `make` on the first rank and returns its result on all of them."""
        if self.world == 1:
            return make()
        shared = [make() if self.first else None]
        dist.broadcast_object_list(shared, src=0, device=torch.device("cpu"))
        return shared[0]  # type: ignore[return-value]

    def gather(self, value: Tensor) -> list[Tensor]:
        """`value` of every rank, on the CPU; the shapes must be equal."""
        if self.world == 1:
            return [value]
        everyone = [torch.empty_like(value, device="cpu") for _ in range(self.world)]
        dist.all_gather(everyone, value.cpu())
        return everyone

    def require_equal(self, model: nn.Module) -> None:
        """RuntimeError if the weights differ between ranks: a machine or this code is faulty."""
        if self.world > 1:
            mark = torch.stack([p.detach().double().sum() for p in model.parameters()]).nan_to_num(7e77).cpu()
            if any(not torch.equal(mark, other) for other in self.gather(mark)):
                raise RuntimeError("the processes' weights differ: resume from the checkpoint with the same command")


ALONE = Ranks()
