"""Repeating the same device work without Python in between: CUDA graphs."""

from collections.abc import Callable, Sequence

import torch

WARM_UP = 3  # real calls before the capture, in which libraries initialise themselves and choose kernels


class Replay:
    """Calls `work` directly WARM_UP times, then captures it as a CUDA graph and replays the graph.

    `work` must read and write tensors at fixed addresses, have static shapes and never wait for the
    device. Every call executes the work once; the capture itself executes nothing. The default
    generator and `generators` advance with every replay, as they would without a graph.
    """

    def __init__(self, work: Callable[[], None], before: Callable[[], None], generators: Sequence[torch.Generator]):
        """`before` runs once, just before the capture. It drops tensors that the graph must own."""
        self.work, self.before = work, before
        self.generators = [generator for generator in generators if generator.device.type == "cuda"]
        self.calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.stream = torch.cuda.Stream()

    def __call__(self) -> None:
        """One execution of the work."""
        if self.graph is None and self.calls < WARM_UP:
            self.calls += 1
            self._on_side_stream()
            return
        if self.graph is None:
            self.graph = self._capture()
        self.graph.replay()

    def _on_side_stream(self) -> None:
        """Executes the work outside the default stream, as the capture will."""
        here = torch.cuda.current_stream()
        self.stream.wait_stream(here)
        with torch.cuda.stream(self.stream):
            self.work()
        here.wait_stream(self.stream)

    def _capture(self) -> torch.cuda.CUDAGraph:
        self.before()
        graph = torch.cuda.CUDAGraph()
        for generator in self.generators:
            graph.register_generator_state(generator)
        with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
            self.work()
        return graph
