"""Cases that fail alone, with an empty device for each."""

import gc
import time
from collections.abc import Callable, Iterator
from functools import partial

from bench.cells import NETWORKS, Plan
from bench.line import Line
from sns.common import accelerator
from sns.common.errors import UserError


def guarded(plan: Plan, row: int, what: str, case: Callable[[], Iterator[Line]]) -> Iterator[Line]:
    """The lines of `case`. One line that says so if it fails or if the row's time is over."""
    if time.monotonic() > plan.ends:
        yield Line(row, what, "", note="left out: the time of the row is over")
        return
    release(plan)
    try:
        yield from case()
    except (RuntimeError, UserError) as error:  # torch.OutOfMemoryError is a RuntimeError
        message = (str(error).splitlines() or [type(error).__name__])[0][:160]
        yield Line(row, what, "", note=f"failed: {message}")


def each_cell(plan: Plan, row: int, what: str, case: Callable[[Plan, str, str], Iterator[Line]]) -> Iterator[Line]:
    """`guarded` for all networks and batch regimes; `case` gets (plan, setting, regime)."""
    for setting, (network, *_) in NETWORKS.items():
        for regime in plan.batches():
            yield from guarded(plan, row, f"{what}, {network}, {regime} batch", partial(case, plan, setting, regime))


def release(plan: Plan) -> None:
    """Frees the memory of earlier cases, so that the peak is that of the next one."""
    there = accelerator.of(plan.device)
    if not there.host:
        gc.collect()
        there.synchronize()
        there.empty_cache()
        there.reset_peak()
