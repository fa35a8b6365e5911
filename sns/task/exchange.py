"""One run over several processes, each with its own device: the same mathematics as one process.

Every rank draws the same global batch and takes a contiguous part of it that consists of whole
batch-norm groups. After all passes of an update, one sum over the ranks gives each of them the
gradients and running statistics that one process would have. The rest of the update is the same on
every rank, so that weights, momentum and the method's state stay equal. Dropout masks differ by
rank.
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sns.common.ranks import Ranks
from sns.model.ghost_norm import MOMENTUM, GhostBatchNorm2d


class Exchange:
    """Sums over the ranks what an update needs: gradients, running statistics, running metrics.

    The running statistics change once a group, r <- (1 - m) r + m s. Let each of W ranks have K
    groups and start from r0. Rank i then holds r_i = (1 - m)^K r0 + c_i, and one process would hold
    (1 - m)^(K W) r0 + sum over i of (1 - m)^(K (W - 1 - i)) c_i.
    """

    def __init__(self, ranks: Ranks, model: nn.Module, groups: int) -> None:
        """`groups`: K, the batch-norm groups of an update on each rank."""
        self.ranks = ranks
        self.parameters = list(model.parameters())
        norms = [module for module in model.modules() if isinstance(module, GhostBatchNorm2d)]
        self.statistics = [b for n in norms for b in (n.running_mean, n.running_var) if b is not None]
        keep = 1.0 - MOMENTUM
        self.own, self.all = keep**groups, keep ** (groups * ranks.world)
        self.later = keep ** (groups * (ranks.world - 1 - ranks.rank))

    def begin(self) -> list[Tensor]:
        """Called before the passes of an update. Returns r0."""
        return [] if self.ranks.world == 1 else [b.clone() for b in self.statistics]

    @torch.no_grad()
    def end(self, before: list[Tensor], sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """Called after the passes: sets `.grad` and the running statistics to those of all ranks.

        `before` is what `begin` returned. Returns `sums`, each (), summed over the ranks.
        """
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
        totals = torch.stack([value.double() for value in sums.values()])
        dist.all_reduce(totals)
        return {name: total.to(value.dtype) for (name, value), total in zip(sums.items(), totals, strict=True)}
