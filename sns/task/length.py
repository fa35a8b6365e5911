"""How long a run is and when it is evaluated: arithmetic on update numbers."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Length:
    """A run of `epochs` passes over `examples` examples in full batches of `batch`.

    300 epochs of 5,000 images in batches of 4,096 are 366 updates.
    """

    epochs: float
    examples: int
    batch: int

    @property
    def updates(self) -> int:
        """The number of updates of the whole run, at least one."""
        return max(1, self._updates(self.epochs))

    def epoch(self, step: int) -> float:
        """Epochs after `step` updates."""
        return step * self.batch / self.examples

    def evaluations(self, every: float) -> list[int]:
        """The updates after which to evaluate: the last within each `every` epochs and of all."""
        every = max(every, self.batch / self.examples)  # no more often than after every update
        count = math.floor(self.epochs / every + 1e-9)
        steps = {self._updates(k * every) for k in range(1, count + 1)}
        return sorted((steps - {0}) | {self.updates})

    def _updates(self, epochs: float) -> int:
        return math.floor(epochs * self.examples / self.batch + 1e-9)
