"""What is asked of torch.cuda and torch.accelerator, as far as no GPU is needed to show it."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from sns.common import accelerator
from sns.common.errors import UserError
from sns.config.schema import TrainConfig
from sns.train.device import choose_device, choose_mode

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


class Cuda:
    """Notes the calls to torch.cuda, in order."""

    def __init__(self) -> None:
        self.calls: list[object] = []

    def CUDAGraph(self) -> "Cuda":  # noqa: N802  torch's name
        return self

    def Stream(self, device: torch.device) -> "Cuda":  # noqa: N802  torch's name
        return Cuda()

    def current_stream(self, device: torch.device) -> "Cuda":
        return self

    def register_generator_state(self, generator: torch.Generator) -> None:
        self.calls.append(generator)

    def wait_stream(self, other: "Cuda") -> None:
        self.calls.append(("waits", other))

    def replay(self) -> None:
        self.calls.append("replay")

    @contextmanager
    def stream(self, stream: "Cuda") -> Iterator[None]:
        self.calls.append(("on", stream))
        yield
        self.calls.append("back")

    @contextmanager
    def graph(self, graph: "Cuda", stream: "Cuda", capture_error_mode: str) -> Iterator[None]:
        self.calls.append((graph, stream, capture_error_mode, gc.isenabled()))
        yield
        self.calls.append("captured")


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    noted = Cuda()
    for name in ("CUDAGraph", "Stream", "current_stream", "stream", "graph"):
        monkeypatch.setattr(torch.cuda, name, getattr(noted, name))
    return noted


def test_a_capture_in_order(cuda: Cuda) -> None:
    """thread_local: several captures may share a process."""
    device, generator = accelerator.of(GPU), torch.Generator()
    stream = device.stream()
    replay = device.capture(lambda: cuda.calls.append("work"), stream, [generator])
    replay()
    assert cuda.calls == [generator, (cuda, stream, "thread_local", False), "work", "captured", "replay"]
    assert gc.isenabled()


def test_work_beside_waits_for_earlier_work_and_is_waited_for(cuda: Cuda) -> None:
    device = accelerator.of(GPU)
    side = device.stream()
    with device.beside(side):
        cuda.calls.append("work")
    device.join(side)
    assert side.calls == [("waits", cuda)]
    assert cuda.calls == [("on", side), "work", "back", ("waits", side)]


def test_a_run_has_a_default_generator_that_its_graphs_draw_from(cuda: Cuda, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its state is exchanged, not copied: a graph refers to the one in use at its capture."""

    class Default:
        state = "process"

        def clone_state(self) -> str:
            return f"copy of {self.state}"

        def graphsafe_get_state(self) -> str:
            return self.state

        def graphsafe_set_state(self, state: str) -> None:
            self.state = state

    monkeypatch.setattr(torch.cuda, "init", lambda: cuda.calls.append("init"))
    monkeypatch.setattr(torch.cuda, "default_generators", (Default(), Default()))
    device = accelerator.of(torch.device("cuda", 1))
    own = device.own_rng()
    assert cuda.calls == ["init"]  # before it there are no default generators
    assert device.use_rng(own) == "process"
    assert [default.state for default in torch.cuda.default_generators] == ["process", "copy of process"]
    assert device.use_rng("process") == own


def test_a_gpu_without_an_index_is_refused() -> None:
    with pytest.raises(ValueError, match="cuda has no index"):
        accelerator.of(torch.device("cuda")).select()


def test_the_cpu_has_no_graphs_and_nothing_to_wait_for() -> None:
    cpu = accelerator.of(CPU)
    assert (cpu.host, cpu.captures, cpu.stream(), cpu.free_bytes(), cpu.peak_bytes()) == (True, False, None, None, None)
    with pytest.raises(RuntimeError, match="cannot capture"):
        cpu.capture(lambda: None, None, [])


def test_a_gpu_of_another_maker_is_taken_by_name_and_runs_eagerly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: torch.device("xpu"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)
    device = choose_device("xpu")
    assert device == torch.device("xpu", 0)
    assert choose_mode(TrainConfig(epochs=1), device) == "eager"
    assert choose_device("auto") == CPU  # only what was written for CUDA graphs is chosen unasked
    with pytest.raises(UserError, match=r"train\.device=cuda asks for device 0"):
        choose_device("cuda")


def test_random_numbers_are_as_before_afterwards() -> None:
    before = torch.get_rng_state()
    with accelerator.forked_rng([CPU]):
        nn.init.normal_(torch.zeros(3))
    assert torch.equal(torch.get_rng_state(), before)
