"""Paired timing: the candidates alternate, so that other load affects all of them alike."""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from sns.common import accelerator

Work = Callable[[], object]
BLOCK = 0.02  # seconds of a timed block, long against the clock's resolution and a synchronisation
SLOW = 0.3  # seconds of a call that one warm-up call after the first prepares well enough


@dataclass(frozen=True)
class Spread:
    """A median and its range."""

    median: float
    low: float
    high: float
    count: int


def spread(values: Sequence[float]) -> Spread:
    """Median, minimum, maximum and number of `values`."""
    return Spread(statistics.median(values), min(values), max(values), len(values))


def seconds(work: Work, device: torch.device, calls: int = 1) -> float:
    """Seconds a call, over `calls` calls, from an idle device to an idle device."""
    wait = accelerator.of(device).synchronize
    wait()
    began = time.perf_counter()
    for _ in range(calls):
        work()
    wait()
    return (time.perf_counter() - began) / calls


def paired(
    works: Mapping[str, Work], device: torch.device, budget: float, rounds: int = 7, warm_up: int | None = None
) -> dict[str, list[float]]:
    """Seconds a call of each candidate, one entry a round; their order rotates from round to round.

    After the warm-up come at least one round and at most `rounds`, fewer once `budget` seconds are
    spent. The first call of each work initialises libraries, kernels and compilers; its time is not
    part of the budget. On a GPU up to five more follow, because a step is captured after a few
    calls, but one only of more than SLOW seconds. Short works are called several times a block.
    """
    until = time.perf_counter() + budget
    if warm_up is None:
        warm_up = 1 if accelerator.of(device).host else 6
    names = list(works)
    calls = {}
    for name in names:
        last = seconds(works[name], device)
        until += last
        for _ in range(warm_up - 1):
            if time.perf_counter() >= until:
                break
            last = seconds(works[name], device)
            if last > SLOW:
                break
        calls[name] = max(1, min(200, math.ceil(BLOCK / max(last, 1e-7))))
    taken: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        began, turn = time.perf_counter(), number % len(names)
        for name in names[turn:] + names[:turn]:
            taken[name].append(seconds(works[name], device, calls[name]))
        now = time.perf_counter()
        if now + (now - began) > until:
            break
    return taken
