"""The device that computes: its streams, events, graphs, memory and random numbers.

Only this file names torch.cuda. Elsewhere `of(device)` gives an Accelerator: that of the CPU, where
every operation has finished when its call returns; a GPU of any maker through torch.accelerator; or
a CUDA GPU, which has streams and graphs too.
"""

import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor


class Event:
    """A mark in the device's work. On the CPU the work before it is always done."""

    def record(self) -> None:
        """Marks the work that has been issued so far."""

    def synchronize(self) -> None:
        """Waits until the marked work is done."""


class Accelerator:
    """The CPU. Subclasses are the devices to which the host issues work without waiting for it."""

    host = True  # whether tensors lie in host memory
    captures = False  # whether work can be captured as a graph, and put on streams
    backend = "gloo"  # of torch.distributed

    def __init__(self, device: torch.device) -> None:
        self.device = device

    @classmethod
    def kind(cls) -> str:
        """The name of this type of device, as in `train.device`."""
        return "cpu"

    @classmethod
    def count(cls) -> int:
        """How many devices of this type the process may use."""
        return 1

    @classmethod
    def at(cls, index: int) -> torch.device:
        """The device number `index` from 0."""
        return torch.device(cls.kind())

    def name(self) -> str | None:
        """The model of the device; None if unknown."""
        return None

    def versions(self) -> dict[str, Any]:
        """The versions of the device's libraries, `cuda` and `cudnn`; None where it uses none."""
        return {"cuda": None, "cudnn": None}

    def has_bf16(self) -> bool:
        """Whether the device computes in bf16. Elsewhere bf16 takes many times longer than fp32."""
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())

    def select(self) -> None:
        """Makes the device the current one of this process. It must have an index."""

    def synchronize(self) -> None:
        """Waits until all work of the device is done."""

    def event(self) -> Event:
        """A new event, to be recorded on the current stream."""
        return Event()

    def stream(self) -> Any:
        """A new stream; None where there are none: `beside` and `join` then do nothing."""
        return None

    def beside(self, stream: Any) -> AbstractContextManager[None]:
        """Work issued inside runs on `stream`, after all work that was issued before."""
        return nullcontext()

    def join(self, stream: Any) -> None:
        """Work issued from here on runs after all work of `stream`."""

    def capture(
        self, work: Callable[[], None], stream: Any, generators: Sequence[torch.Generator]
    ) -> Callable[[], None]:
        """Captures `work` on `stream` without executing it. Returns what executes it once a call.

        `generators`: those of the device that `work` draws from, beside the default one. They
        advance with every execution. RuntimeError where `captures` is false.
        """
        with _no_garbage_collection():
            return self._capture(work, stream, generators)

    def _capture(
        self, work: Callable[[], None], stream: Any, generators: Sequence[torch.Generator]
    ) -> Callable[[], None]:
        raise RuntimeError(f"{self.device} cannot capture a graph")

    def free_bytes(self) -> int | None:
        """Memory that tensors may still use; None if unknown, and on the CPU."""
        return None

    @classmethod
    def empty_cache(cls) -> None:
        """Returns memory to the device that torch holds without using it."""

    def reset_peak(self) -> None:
        """Starts a new measurement of `peak_bytes`."""

    def peak_bytes(self) -> float | None:
        """Most bytes of tensors at one time since `reset_peak`; None if unknown, and on the CPU."""
        return None

    def pinned(self, tensor: Tensor) -> Tensor:
        """`tensor` of the host in memory from which a copy to the device needs no wait."""
        return tensor

    def rng_state(self) -> Tensor:
        """The state of the default random generator of the device."""
        return torch.get_rng_state()

    def set_rng_state(self, state: Tensor) -> None:
        """Restores what `rng_state` gave."""
        torch.set_rng_state(state)

    def forked_rng(self) -> AbstractContextManager[None]:
        """At exit the default generators of the host and of the device are as before."""
        return torch.random.fork_rng([])


class _Card(Accelerator):
    """A GPU of any maker, as far as torch.accelerator covers it."""

    host = False

    @property
    def _module(self) -> Any:
        return torch.get_device_module(self.device)

    @classmethod
    def kind(cls) -> str:
        found = torch.accelerator.current_accelerator(check_available=True)
        return "cpu" if found is None else found.type

    @classmethod
    def count(cls) -> int:
        return torch.accelerator.device_count()

    @classmethod
    def at(cls, index: int) -> torch.device:
        return torch.device(cls.kind(), index)

    @property
    def backend(self) -> str:  # type: ignore[override]
        return f"cpu:gloo,{self.device.type}:{torch.distributed.get_default_backend_for_device(self.device.type)}"

    def name(self) -> str | None:
        ask = getattr(self._module, "get_device_name", None)
        return None if ask is None else str(ask(self.device))

    def has_bf16(self) -> bool:
        ask = getattr(self._module, "is_bf16_supported", None)
        return True if ask is None else bool(ask(including_emulation=False))

    def select(self) -> None:
        if self.device.index is None:
            raise ValueError(f"{self.device} has no index: choose the device with sns.train.device.choose_device")
        torch.accelerator.set_device_index(self.device.index)

    def synchronize(self) -> None:
        torch.accelerator.synchronize(self.device)

    def event(self) -> Event:
        event: Any = torch.Event(self.device.type)
        return event  # type: ignore[no-any-return]

    def free_bytes(self) -> int | None:
        ask = getattr(self._module, "mem_get_info", None)
        if ask is None:  # this type of device does not count
            return None
        held = torch.accelerator.memory_reserved(self.device) - torch.accelerator.memory_allocated(self.device)
        return int(ask(self.device)[0]) + held

    @classmethod
    def empty_cache(cls) -> None:
        torch.accelerator.empty_cache()

    def reset_peak(self) -> None:
        if self.peak_bytes() is not None:
            torch.accelerator.reset_peak_memory_stats(self.device)

    def peak_bytes(self) -> float | None:
        try:
            return float(torch.accelerator.max_memory_allocated(self.device))
        except RuntimeError:  # this type of device does not count
            return None

    def pinned(self, tensor: Tensor) -> Tensor:
        return tensor.pin_memory()

    def rng_state(self) -> Tensor:
        state: Tensor = self._module.get_rng_state(self.device)
        return state

    def set_rng_state(self, state: Tensor) -> None:
        self._module.set_rng_state(state, self.device)

    def forked_rng(self) -> AbstractContextManager[None]:
        return torch.random.fork_rng([self.device], device_type=self.device.type)


class _Cuda(_Card):
    """A CUDA GPU, with streams and graphs."""

    captures = True

    def versions(self) -> dict[str, Any]:
        return {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}

    def stream(self) -> torch.cuda.Stream:
        return torch.cuda.Stream(self.device)

    @contextmanager
    def beside(self, stream: torch.cuda.Stream) -> Iterator[None]:
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):
            yield

    def join(self, stream: torch.cuda.Stream) -> None:
        torch.cuda.current_stream(self.device).wait_stream(stream)

    def _capture(
        self, work: Callable[[], None], stream: torch.cuda.Stream, generators: Sequence[torch.Generator]
    ) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        for generator in generators:
            graph.register_generator_state(generator)
        # thread_local: another thread of this process may use the device meanwhile
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            work()
        return graph.replay


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Collects garbage once, and not inside: a tensor freed in a capture would spoil the graph."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


_stand_in: type[Accelerator] | None = None


def use(stand_in: type[Accelerator] | None) -> None:
    """From now on `of` and `here` give `stand_in` for every device; with None, the real ones."""
    global _stand_in
    _stand_in = stand_in


def of(device: torch.device) -> Accelerator:
    """The accelerator of `device`."""
    return (_stand_in or {"cpu": Accelerator, "cuda": _Cuda}.get(device.type, _Card))(device)


def here() -> type[Accelerator]:
    """The type of accelerator that this process may use: with `kind`, `count` and `at`."""
    if _stand_in is not None:
        return _stand_in
    return {"cpu": Accelerator, "cuda": _Cuda}.get(_Card.kind(), _Card)


def visible(kind: str) -> int:
    """How many accelerators of this type the process may use."""
    found = here()
    return found.count() if found.kind() == kind else 0


@contextmanager
def forked_rng(devices: Iterable[torch.device]) -> Iterator[None]:
    """At exit torch's default generators of the host and of `devices` are as before."""
    with ExitStack() as stack:
        for device in {torch.device("cpu"), *devices}:
            stack.enter_context(of(device).forked_rng())
        yield
