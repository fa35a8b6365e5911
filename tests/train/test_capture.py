"""Each call of a Replay executes once, in warm-up, capture and replay; on a stand-in for CUDA.

test_modes.py compares real captured steps with eager ones, on a GPU.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from sns.train.capture import WARM_UP, Replay


class Stand:
    """As `torch.cuda` does: executes work directly, or records it in a capture and replays it."""

    def __init__(self) -> None:
        self.capturing = False
        self.executed: list[str] = []
        self.recorded: list[str] = []

    def launch(self, name: str) -> None:
        (self.recorded if self.capturing else self.executed).append(name)

    def CUDAGraph(self) -> "Stand":  # noqa: N802  torch's name
        return self

    def replay(self) -> None:
        self.executed += self.recorded

    def wait_stream(self, other: object) -> None:
        pass

    def Stream(self) -> "Stand":  # noqa: N802  torch's name
        return self

    current_stream = Stream

    @contextmanager
    def stream(self, stream: object) -> Iterator[None]:
        yield

    @contextmanager
    def graph(self, graph: object, stream: object, capture_error_mode: str) -> Iterator[None]:
        assert capture_error_mode == "thread_local"  # several captures may share a process
        self.capturing = True
        yield
        self.capturing = False


def test_every_call_executes_once_and_gradients_are_dropped_before_the_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    stand = Stand()
    for name in ("CUDAGraph", "Stream", "current_stream", "stream", "graph"):
        monkeypatch.setattr(torch.cuda, name, getattr(stand, name))
    dropped: list[int] = []
    replay = Replay(lambda: stand.launch("update"), lambda: dropped.append(len(stand.executed)), [torch.Generator()])
    for calls in range(1, WARM_UP + 5):
        replay()
        assert len(stand.executed) == calls
    assert dropped == [WARM_UP]
    assert stand.recorded == ["update"]
