"""The processes that share one run: who this one is, and what they tell each other."""

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
    """This process's place among those of the run. Alone, every method is the identity and talks to
    nobody."""

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

    def part(self, size: int, ghost: int | None) -> int:
        """Images of an update that fall to each rank; UserError where batch-norm groups would be
        torn."""
        if self.world == 1:
            return size
        if size % self.world or ghost is None or (size // self.world) % ghost:
            raise UserError(
                f"batch.size={size} with batch.ghost={ghost} cannot be shared by {self.world} processes: "
                "each needs the same number of whole batch-norm groups; choose another number of processes"
            )
        return size // self.world

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
        """RuntimeError if the weights have come apart: then something is wrong with the machines or
        with us."""
        if self.world > 1:
            mark = torch.stack([p.detach().double().sum() for p in model.parameters()]).nan_to_num(7e77).cpu()
            if any(not torch.equal(mark, other) for other in self.gather(mark)):
                raise RuntimeError("the processes' weights differ: go on from the checkpoint with the same command")


ALONE = Ranks()
