"""Cases that fail alone, with an empty device for each."""

import gc
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from bench.cells import NETWORKS, Plan
from bench.line import Line
from sns.common import accelerator
from sns.common.errors import UserError


class Stop(BaseException):
    """Raised by a signal. No code on the way may take it for an error of its own."""

    def __init__(self, reason: str, late: bool) -> None:
        """`late`: whether it came because the time has passed."""
        super().__init__(reason)
        self.late = late


@contextmanager
def stopped(seconds: float, of: str) -> Iterator[None]:
    """Inside, Stop is raised after `seconds`, the time `of` something, by Ctrl-C and by SIGTERM."""

    def stop(number: int, frame: object) -> None:
        late = number == signal.SIGALRM
        raise Stop(f"the {seconds:g} s {of} have passed" if late else f"{signal.Signals(number).name} came", late)

    before = {number: signal.signal(number, stop) for number in (signal.SIGALRM, signal.SIGINT, signal.SIGTERM)}
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def guarded(plan: Plan, row: int, what: str, case: Callable[[], Iterator[Line]]) -> Iterator[Line]:
    """The lines of `case`. One line that says so if it fails or if the row's time has passed."""
    if time.monotonic() > plan.ends:
        yield Line(row, what, "", note="left out: the time of the row has passed")
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
