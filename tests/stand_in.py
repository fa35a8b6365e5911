"""A stand-in for a CUDA GPU on the CPU, so that the GPU's branch of the code runs without one.

It has streams, events, and graphs that record every operation and replay it on the same tensors. It
refuses what a GPU refuses or would compute wrongly: a device without an index, a wait inside a
capture, a generator that the graph does not know, two streams that use a tensor without an order,
garbage collection during a capture. It counts what the host waits for. The `stand_in` fixture of
conftest.py switches it on; `environment()` does so in a child process, by tests/child.
"""

import gc
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sns.common import accelerator
from sns.common.accelerator import Accelerator, Event

TESTS = Path(__file__).resolve().parent
COUNT = 2  # devices, where CUDA_VISIBLE_DEVICES lists none
WAITS = {Tensor.item, Tensor.tolist, Tensor.numpy, Tensor.cpu, Tensor.__bool__, Tensor.__float__, Tensor.__int__}


class Stream:
    """A queue of work, and the memory that it used since it was last joined, in a capture."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.read: set[int] = set()  # addresses
        self.written: set[int] = set()


class Rng:
    """A default generator. A graph draws from the one that was in use when it was captured."""

    def __init__(self) -> None:
        self.state = torch.get_rng_state()


class Mark(Event):
    """An event: how many replays were issued before it."""

    def __init__(self) -> None:
        self.issued = 0

    def record(self) -> None:
        self.issued = StandIn.issued

    def synchronize(self) -> None:
        StandIn.counts["event waits"] += 1
        StandIn.done = max(StandIn.done, self.issued)


class StandIn(Accelerator):
    """The accelerator. Its devices are cpu:0 and cpu:1; what happens on them is counted here."""

    host = False
    captures = True
    counts: ClassVar[Counter[str]] = Counter()
    issued, done, furthest = 0, 0, 0  # replays issued, replays waited for, their largest distance
    current: ClassVar[Stream] = Stream("default")
    capturing: ClassVar["Recording | None"] = None
    selected: ClassVar[int | None] = None
    rng: ClassVar["Rng"]  # the default generator in use

    @classmethod
    def reset(cls) -> None:
        """Forgets everything that was counted."""
        cls.counts.clear()
        cls.issued = cls.done = cls.furthest = 0
        cls.current, cls.capturing, cls.selected = Stream("default"), None, None
        cls.rng = Rng()

    @classmethod
    def kind(cls) -> str:
        return "cuda" if cls.count() else "cpu"

    @classmethod
    def count(cls) -> int:
        listed = os.environ.get("CUDA_VISIBLE_DEVICES")
        return COUNT if listed is None else len([name for name in listed.split(",") if name.strip()])

    @classmethod
    def at(cls, index: int) -> torch.device:
        return torch.device("cpu", index)

    def name(self) -> str:
        return "stand-in"

    def versions(self) -> dict[str, Any]:
        return {"cuda": "0.0", "cudnn": 0}

    def select(self) -> None:
        if self.device.index is None:
            raise ValueError(f"Expected a torch.device with a specified index, but got {self.device}")
        StandIn.selected = self.device.index

    def synchronize(self) -> None:
        self._refuse_in_capture("synchronize")
        self.counts["synchronizations"] += 1
        StandIn.done = StandIn.issued

    def event(self) -> Event:
        return Mark()

    def own_rng(self) -> "Rng":
        return Rng()

    def use_rng(self, own: "Rng") -> "Rng":
        before, StandIn.rng = self.rng, own
        before.state = torch.get_rng_state()
        torch.set_rng_state(own.state)
        return before

    def stream(self) -> Stream:
        self.counts["streams"] += 1
        return Stream(f"stream {self.counts['streams']}")

    @contextmanager
    def beside(self, stream: Stream) -> Iterator[None]:
        before, StandIn.current = self.current, stream
        if self.capturing is not None:
            self.capturing.fork(stream)
        try:
            yield
        finally:
            StandIn.current = before

    def join(self, stream: Stream) -> None:
        assert isinstance(stream, Stream)
        if self.capturing is not None:
            self.capturing.join(stream)

    def _capture(
        self, work: Callable[[], None], stream: Stream, generators: Sequence[torch.Generator]
    ) -> Callable[[], None]:
        if gc.isenabled():
            raise RuntimeError("garbage may be collected during the capture")
        self.counts["captures"] += 1
        before, StandIn.current = self.current, stream
        StandIn.capturing = recording = Recording(stream, [torch.default_generator, *generators])
        try:
            with recording, Refusing():
                work()
        finally:
            StandIn.current, StandIn.capturing = before, None
        recording.finish()

        def replay() -> None:
            self._refuse_in_capture("replay")
            if self.rng is not recording.rng:
                raise RuntimeError("the graph draws from a default generator that is not in use")
            self.counts["replays"] += 1
            self.counts[f"replays on {self.current.name}"] += 1
            StandIn.issued += 1
            StandIn.furthest = max(StandIn.furthest, StandIn.issued - StandIn.done)
            recording.replay()

        return replay

    @classmethod
    def empty_cache(cls) -> None:
        cls.counts["emptied caches"] += 1

    def reset_peak(self) -> None:
        self.counts["peaks"] += 1

    def peak_bytes(self) -> float:
        return 1e9

    def pinned(self, tensor: Tensor) -> Tensor:
        self.counts["pinned"] += 1
        return tensor.clone()

    def _refuse_in_capture(self, what: str) -> None:
        if self.capturing is not None:
            raise RuntimeError(f"operation not permitted when stream is capturing: {what}")


class Refusing(TorchFunctionMode):
    """Refuses what waits for the device, since a captured graph cannot."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in WAITS:
            raise RuntimeError(f"operation not permitted when stream is capturing: {function.__name__}")
        return function(*args, **(kwargs or {}))


class Recording(TorchDispatchMode):
    """Records every operation, on which tensors; `replay` executes them on the same tensors.

    `finish` undoes what the operations did while they were recorded: a capture executes nothing.
    """

    def __init__(self, stream: Stream, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.rng = StandIn.rng
        self.generators = [(generator, generator.get_state()) for generator in generators]
        self.operations: list[tuple[Any, Any, Any, list[Tensor | None]]] = []  # operation, its arguments, its results
        self.before: dict[int, tuple[Tensor, Any]] = {}  # by address: tensors from outside, a copy of their memory
        self.own: dict[int, Tensor] = {}  # tensors that the capture made
        self.unjoined: list[Stream] = []

    def fork(self, stream: Stream) -> None:
        if stream not in self.unjoined:
            stream.read, stream.written = set(), set()
            self.unjoined.append(stream)

    def join(self, stream: Stream) -> None:
        if stream not in self.unjoined:
            raise RuntimeError(f"{stream.name} takes no part in the capture")
        self.unjoined.remove(stream)

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if operation is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing: item")
        leaves = tree_leaves((args, kwargs))
        self._check_generators(leaves)
        inputs = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        for tensor in inputs:
            address = _address(tensor)
            if address not in self.own and address not in self.before:
                self.before[address] = tensor, tensor.untyped_storage().clone()
        result = operation(*args, **kwargs)
        known = {_address(tensor) for tensor in inputs}
        made = [None if t is None or _address(t) in known else t for t in _tensors(result)]
        self.own |= {_address(tensor): tensor for tensor in made if tensor is not None}
        changed = _changed(operation, args, kwargs)
        self._check_order(known, changed | {_address(t) for t in made if t is not None})
        if changed or any(t is not None for t in made):  # else a view, whose address stays
            self.operations.append((operation, args, kwargs, made))
        return result

    def _check_generators(self, leaves: list[Any]) -> None:
        registered = {generator._cdata for generator, _ in self.generators}
        if any(isinstance(leaf, torch.Generator) and leaf._cdata not in registered for leaf in leaves):
            raise RuntimeError("the graph does not know a generator that its work draws from")

    def _check_order(self, used: set[int], changed: set[int]) -> None:
        here = StandIn.current
        for other in self.unjoined:
            if other is not here and (used & other.written or changed & (other.read | other.written)):
                raise RuntimeError(f"{here.name} and {other.name} use a tensor without an order between them")
        here.read |= used
        here.written |= changed

    def finish(self) -> None:
        """Puts back all memory and generators. What the graph owns holds NaN until a replay."""
        if self.unjoined:
            raise RuntimeError(f"{self.unjoined[0].name} was not joined before the end of the capture")
        for generator, state in self.generators:
            generator.set_state(state)
        with torch.no_grad():
            for tensor, memory in self.before.values():
                tensor.untyped_storage().copy_(memory)
            for tensor in self.own.values():
                if tensor.is_floating_point():
                    tensor.fill_(torch.nan)
        self.before.clear()

    @torch.no_grad()
    def replay(self) -> None:
        """Executes the operations, on the same tensors."""
        for operation, args, kwargs, made in self.operations:
            result = operation(*args, **kwargs)
            for place, value in zip(made, _tensors(result), strict=True):
                if place is not None:
                    place.copy_(value)


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _tensors(result: Any) -> list[Tensor | None]:
    return [leaf for leaf in tree_leaves(result) if leaf is None or isinstance(leaf, Tensor)]


def _changed(operation: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> set[int]:
    """Addresses of what an operation writes in place, by its schema."""
    arguments = operation._schema.arguments
    values = [kwargs.get(a.name, args[i] if i < len(args) else None) for i, a in enumerate(arguments)]
    written = [v for a, v in zip(arguments, values, strict=True) if a.alias_info is not None and a.alias_info.is_write]
    if operation is torch.ops.aten.native_batch_norm.default:  # its schema does not say so
        written += values[3:5]
    return {_address(leaf) for leaf in tree_leaves(written) if isinstance(leaf, Tensor)}


def switch_on() -> None:
    """From now on this process has stand-ins for GPUs, as many as CUDA_VISIBLE_DEVICES lists."""
    StandIn.reset()
    accelerator.use(StandIn if StandIn.count() else None)
    # torch's own list of the devices on which it can keep an optimizer's state for a graph
    sys.modules["torch.optim.adam"]._get_capturable_supported_devices = lambda *_, **__: ["cpu"]  # type: ignore[attr-defined]


def environment() -> dict[str, str]:
    """The variables with which a child process has stand-ins from its start."""
    paths = [str(TESTS / "child"), str(TESTS), str(TESTS.parent)]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
