"""Work for a device without Python in between, and without running far ahead of it."""

from collections import deque
from collections.abc import Callable, Sequence

import torch

from sns.common.accelerator import Accelerator, Event

WARM_UP = 3  # real calls before the capture, in which libraries initialise themselves and choose kernels
AHEAD = 2  # updates that the host may have issued and the device not finished, when `mark` returns


class Replay:
    """Calls `work` directly WARM_UP times, then captures it as a graph and replays the graph.

    `work` must read and write tensors at fixed addresses, have static shapes and never wait for the
    device. Every call executes the work once; the capture itself executes nothing. The default
    generator and `generators` advance with every replay, as they would without a graph.
    """

    def __init__(
        self,
        device: Accelerator,
        work: Callable[[], None],
        before: Callable[[], None],
        generators: Sequence[torch.Generator],
    ) -> None:
        """`before` runs once, just before the capture. It drops tensors that the graph must own."""
        self.device, self.work, self.before = device, work, before
        self.generators = [generator for generator in generators if generator.device.type == device.device.type]
        self.calls = 0
        self.replay: Callable[[], None] | None = None
        self.stream = device.stream()

    def __call__(self) -> None:
        """One execution of the work."""
        if self.replay is None and self.calls < WARM_UP:
            self.calls += 1
            with self.device.beside(self.stream):  # outside the default stream, as the capture will be
                self.work()
            self.device.join(self.stream)
            return
        if self.replay is None:
            self.before()
            self.replay = self.device.capture(self.work, self.stream, self.generators)
        self.replay()


class RunAhead:
    """Keeps the host at most AHEAD updates ahead of the device.

    Without it the host would issue all updates up to the next evaluation at once. Signals, time
    limits and progress would then be those of the host and not of the training.
    """

    def __init__(self, device: Accelerator) -> None:
        self.spare = [device.event() for _ in range(AHEAD + 1)]
        self.issued: deque[Event] = deque()

    def mark(self) -> None:
        """Called after every update: waits until the one AHEAD updates before is done."""
        event = self.spare.pop()
        event.record()
        self.issued.append(event)
        if len(self.issued) > AHEAD:
            done = self.issued.popleft()
            done.synchronize()
            self.spare.append(done)
