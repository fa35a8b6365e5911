"""Runs that one process trains in turns: after every update the next run goes on.

On a GPU an update is one call that returns at once. Each run has a stream, so that updates of
several small runs overlap on the device. The host works for one run at a time, without threads.
"""

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from sns.common.accelerator import Accelerator
from sns.common.memory import shared_by
from sns.common.precision import training_precision
from sns.train.memory import release

T = TypeVar("T")
Steps = Generator[None, None, T]  # a run: it yields after each update, and returns its result
HOST = Accelerator(torch.device("cpu"))


@dataclass
class Run(Generic[T]):
    """A run, not begun or between two updates, and the precision of its turns."""

    steps: Steps[T]
    precision: str


class OwnGenerator:
    """The default random generator of a device in the turns of one run."""

    def __init__(self, device: Accelerator) -> None:
        self.device, self.own = device, device.own_rng()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Inside, torch draws from it; it keeps its state from one turn to the next."""
        outside = self.device.use_rng(self.own)
        try:
            yield
        finally:
            self.own = self.device.use_rng(outside)


class Place(Generic[T]):
    """Trains one run after the other, in turns with the runs of other places.

    With a `device` each run has the stream of its place and its own default generators, of the host
    and of the device. Without one it must be the only place, and uses those of the process.
    """

    def __init__(self, device: Accelerator | None = None) -> None:
        self.device, self.stream = device, None if device is None else device.stream()
        self.run: Run[T] | None = None
        self.generators: list[OwnGenerator] = []

    def take(self, run: Run[T]) -> None:
        """The run to train next; the place must be free."""
        self.run = run
        self.generators = [] if self.device is None else [OwnGenerator(HOST), OwnGenerator(self.device)]

    def turn(self) -> list[T]:
        """One turn of the run; its result if it has ended, else nothing."""
        assert self.run is not None
        with ExitStack() as stack:
            stack.enter_context(training_precision(self.run.precision))
            for generator in self.generators:
                stack.enter_context(generator.in_use())
            if self.device is not None:
                stack.enter_context(self.device.beside(self.stream))
            try:
                next(self.run.steps)
                return []
            except StopIteration as end:
                result: T = end.value
        self._leave()
        return [result]

    def _leave(self) -> None:
        """Frees the place, and the device's memory for the runs of other streams."""
        self.run = None
        if self.device is not None:
            self.device.synchronize()  # memory and graphs must not be freed while they are in use
            release()

    def close(self) -> None:
        """Ends the run, if there is one, where it is."""
        if self.run is not None:
            self.run.steps.close()


def take_turns(runs: Iterable[Run[T]], places: Sequence[Place[T]]) -> list[T]:
    """Trains all runs, one at a time in each place; their results in the order in which they ended.

    The next of `runs` is asked for when a place is free for it. An exception that a run does not
    handle itself ends the others where they are.
    """
    waiting, results = iter(runs), list[T]()
    with shared_by(len(places)):
        try:
            while True:
                for place in places:
                    if place.run is None and (run := next(waiting, None)) is not None:
                        place.take(run)
                busy = [place for place in places if place.run is not None]
                if not busy:
                    return results
                for place in busy:
                    results += place.turn()
        finally:
            for place in places:
                place.close()
