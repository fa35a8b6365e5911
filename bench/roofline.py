"""Row 10: arithmetic and memory traffic against the measured limits of the device."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from bench.cells import NETWORKS, Plan, batch_of, cell, classified, mean_loss, update
from bench.guard import each_cell
from bench.line import Line
from bench.modes import PRECISIONS, ROW
from bench.timing import Spread, Work, paired, spread
from sns.common.precision import training_precision
from sns.train.session import Session


class Traffic(TorchDispatchMode):
    """Counts bytes as if every operator read its inputs from memory and wrote its outputs, once.

    Views cost nothing. An upper estimate: caches and fused kernels move less.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, torch.Tensor)]
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return out


def work_of_a_step(session: Session, images: int) -> tuple[float, float]:
    """Floating-point operations and bytes of forward and backward, an image, from one pass."""
    x, y = (part[:images] for part in batch_of(session))
    loss = mean_loss(session)
    with Traffic() as traffic, FlopCounterMode(display=False) as flops:
        loss(x, y).backward()
    classified(session).model.zero_grad(set_to_none=True)
    return flops.get_total_flops() / len(y), traffic.bytes / len(y)


def ceilings(plan: Plan) -> dict[str, Spread]:
    """FLOP/s of a large matrix product at each precision; bytes/s of a large copy."""
    size = 256 if plan.tiny else 8_192
    rates = {}
    for name in PRECISIONS:
        a = torch.randn(size, size, device=plan.device, dtype=torch.bfloat16 if name == "bf16" else torch.float32)
        with training_precision(name):
            taken = paired({"mm": _product(a)}, plan.device, 2.0, rounds=5)["mm"]
        rates[name] = spread([2 * size**3 / seconds for seconds in taken])
    source = torch.empty(1 << (20 if plan.tiny else 30), dtype=torch.uint8, device=plan.device)
    target = torch.empty_like(source)
    taken = paired({"copy": lambda: target.copy_(source)}, plan.device, 2.0, rounds=5)["copy"]
    rates["copy"] = spread([2 * len(source) / seconds for seconds in taken])
    return rates


def _product(a: torch.Tensor) -> Work:
    out = torch.empty_like(a)
    return lambda: torch.mm(a, a, out=out)


def roofline(plan: Plan) -> Iterator[Line]:
    """The ceilings, then both shares for each network and batch."""
    top = ceilings(plan)
    for name in PRECISIONS:
        yield Line(ROW, f"ceiling: {name} matrix product", "", "FLOP/s", top[name])
    yield Line(ROW, "ceiling: copy, read and write", "", "B/s", top["copy"])
    yield from each_cell(plan, ROW, "roofline", partial(_network, top))


def _network(top: dict[str, Spread], plan: Plan, setting: str, regime: str) -> Iterator[Line]:
    session = cell(plan, setting, f"batch={regime}")
    operations, traffic = work_of_a_step(session, min(64, session.config.batch.size))
    taken = paired({"ours": update(session)}, plan.device, plan.budget / len(NETWORKS) / 2, rounds=5)["ours"]
    rates = [session.config.batch.size / seconds for seconds in taken]
    flops, moved = (spread([each * rate for rate in rates]) for each in (operations, traffic))
    precision = session.config.train.precision
    part = flops.median / top[precision].median, moved.median / top["copy"].median
    note = (
        f"{100 * part[0]:.0f}% of the {precision} ceiling; {moved.median / 1e9:,.0f} GB/s by the unfused estimate, "
        f"{100 * part[1]:.0f}% of the copy; {'compute' if part[0] > part[1] else 'memory'}-bound, {session.mode}"
    )
    name = f"{NETWORKS[setting][0]}{' (tiny)' if plan.tiny else ''}"
    yield Line(ROW, f"roofline, {name}, B = {session.config.batch.size}", "", "FLOP/s", flops, note=note)
