"""The four hooks of a method: when a task calls them, and that a projection has the last word."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sns.config.schema import Config
from sns.linalg.weights import weight_parameters
from sns.method import METHODS, Method, register
from sns.method.base import Risk, Sums
from sns.train.run import advance, run
from sns.train.session import start

Make = Callable[..., Config]


@dataclass
class ClipOptions:
    name: str = "clip"
    limit: float = 0.02


class Clip(Method):
    """Every weight is cut to [-limit, limit] after each step."""

    Config = ClipOptions
    calls: list[str]

    def prepare(self) -> None:
        self.calls = ["prepare"]
        nn.utils.parametrizations.weight_norm(self.model.head[-1])  # changes which parameters there are

    def backward(self, risk: Risk, x: Tensor, share: float) -> Sums:
        self.calls.append("backward")
        return super().backward(risk, x, share)

    def regularize(self) -> None:
        self.calls.append("regularize")
        self.before = [w.detach().clone() for w in weight_parameters(self.model)]

    @torch.no_grad()
    def project(self) -> None:
        self.calls.append("project")
        self.moved = any(not torch.equal(a, b) for a, b in zip(self.before, weight_parameters(self.model), strict=True))
        for module in self.model.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.clamp_(-self.options.limit, self.options.limit)


@pytest.fixture
def clip() -> Iterator[None]:
    register("clip")(Clip)
    yield
    del METHODS["clip"]


OPTIONS = ("++method.name=clip", "batch=large", "batch.size=32", "batch.ghost=8", "batch.micro=16")


@pytest.mark.usefixtures("clip")
def test_order_of_the_hooks(tiny: Make) -> None:
    session = start(tiny(*OPTIONS))
    task: Any = session.task
    before = len(task.method.calls)
    advance(session)
    assert (before, task.method.calls) == (1, ["prepare", "backward", "backward", "regularize", "project"])
    assert task.method.moved  # the optimizer had stepped when the projection was called
    trained = {id(p) for p in task.optimizers[0].parameters}
    assert trained == {id(p) for p in task.model.parameters()}  # those that `prepare` left


@pytest.mark.usefixtures("clip")
def test_a_projection_has_the_last_word(tiny: Make) -> None:
    config = tiny(*OPTIONS, "measure.hessian=false", "measure.spectra=false")
    assert run(config).status == "ok"
    task: Any = start(config).task
    weights = [m.weight for m in task.model.modules() if isinstance(m, nn.Conv2d)]
    assert all(w.detach().abs().max() <= 0.02 for w in weights)
    assert any((w.detach().abs() == 0.02).any() for w in weights)
