"""One run over several processes, each with its own device: the same mathematics as one process.

Every rank draws the same global batch and takes its contiguous part of it, whole batch-norm groups.
After all passes of an update one sum over the ranks makes gradients and running statistics what one
process would have; from there on the ranks compute the same, so weights, momentum and the method's
state stay identical. Dropout masks differ by rank.
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sns.common.ranks import Ranks
from sns.model.ghost_norm import MOMENTUM, GhostBatchNorm2d


class Exchange:
    """The one sum over the ranks that an update needs: gradients, sums of the running metrics,
    running statistics.

    The running statistics move once a group, r <- (1 - m) r + m s. With K groups on each of W
    ranks, all of which started from r0, rank i holds r_i = (1 - m)^K r0 + c_i, and one process
    would hold (1 - m)^(K W) r0 + sum over i of (1 - m)^(K (W - 1 - i)) c_i.
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
    def end(self, before: list[Tensor], sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """After the passes: makes `.grad` and the running statistics those of all ranks, in place.
        Returns `sums`, each (), over the ranks."""
        if self.ranks.world == 1:
            return sums
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        added = [(r - self.own * r0) * self.later for r, r0 in zip(self.statistics, before, strict=True)]
        flat = torch.cat([t.reshape(-1) for t in (*gradients, *added)])
        dist.all_reduce(flat)
        parts = flat.split([t.numel() for t in (*gradients, *added)])
        for gradient, part in zip(gradients, parts, strict=False):
            gradient.copy_(part.view(gradient.shape))
        for r, r0, part in zip(self.statistics, before, parts[len(gradients) :], strict=True):
            r.copy_(self.all * r0 + part.view(r.shape))
        seen = torch.stack([value.double() for value in sums.values()])
        dist.all_reduce(seen)
        return {name: total.to(value.dtype) for (name, value), total in zip(sums.items(), seen, strict=True)}
