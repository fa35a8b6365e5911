"""Paired timing: the candidates alternate, so that other load affects all of them alike."""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

Work = Callable[[], object]
BLOCK = 0.02  # seconds of a timed block, long against the clock's resolution and a synchronisation


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
    _wait(device)
    began = time.perf_counter()
    for _ in range(calls):
        work()
    _wait(device)
    return (time.perf_counter() - began) / calls


def paired(
    works: Mapping[str, Work], device: torch.device, budget: float, rounds: int = 7, warm_up: int | None = None
) -> dict[str, list[float]]:
    """Seconds a call of each candidate, one entry a round; their order rotates from round to round.

    After the warm-up (longer on a GPU, where a step is captured after a few calls) come at least
    one round and at most `rounds`, fewer once `budget` seconds are spent. Short works are called
    several times a block.
    """
    began = time.perf_counter()
    if warm_up is None:
        warm_up = 6 if device.type == "cuda" else 1
    names = list(works)
    calls = {}
    for name in names:
        for _ in range(warm_up):
            last = seconds(works[name], device)
        calls[name] = max(1, min(200, math.ceil(BLOCK / max(last, 1e-7))))
    taken: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            taken[name].append(seconds(works[name], device, calls[name]))
        spent = time.perf_counter() - began
        if spent + (spent / (number + 1 + warm_up)) > budget:
            break
    return taken


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
