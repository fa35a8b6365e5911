"""A task that the package does not have: least squares on random vectors.

It imports what a user's file would import, and registers itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sns import method, optim
from sns.common.seed import generator
from sns.method.base import Sums
from sns.record.schema import Column, Score
from sns.task import Setup, Task, register
from sns.task.base import Pieces, Row, Sizes
from sns.task.length import Length
from sns.task.running import Running


@dataclass
class RegressionOptions:
    """Vectors of `features` standard normal numbers; targets of a fixed linear map with noise."""

    name: str = "regression"
    examples: int = 40
    features: int = 5
    noise: float = 0.1


@register("regression")
class Regression(Task):
    """A small network trained on the mean squared error."""

    Config = RegressionOptions
    columns: Sequence[Column] = (
        Column("train_error", "", "mean squared error on the training vectors", "train"),
        Column("test_error", "", "on as many others", "test"),
        Column("penalty", "", "the method's penalty at the last update"),
    )
    score = Score("test_error", high=False)

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        config, options = setup.config, setup.config.task
        draw = torch.Generator().manual_seed(0)  # the same data for every seed
        x = torch.randn(2, options.examples, options.features, generator=draw)
        y = x.sum(dim=-1, keepdim=True) + options.noise * torch.randn(2, options.examples, 1, generator=draw)
        (self.x, self.test_x), (self.y, self.test_y) = x.to(setup.device), y.to(setup.device)
        init = generator(config.seed, "init")
        self.model = nn.Sequential(nn.Linear(options.features, 16), nn.Softplus(), nn.Linear(16, 1)).to(setup.device)
        with torch.no_grad():
            for p in self.model.parameters():
                p.copy_(0.3 * torch.randn(p.shape, generator=init))
        self.method = method.build(config.method, self.model, generator(config.seed, "power_iteration"))
        self.method.prepare()
        self.factor = self.method.factor
        self.optimizers = [optim.build(config.optim, self.model.parameters())]
        self.order = generator(config.seed, "order")
        self.index = torch.zeros(config.batch.size, dtype=torch.int64, device=setup.device)
        self.running = Running(setup.device, {"loss": torch.float64})
        self.sizes = Sizes(config.batch.size, options.examples)
        self.length = Length(config.train.epochs, options.examples, config.batch.size)

    def draw(self) -> None:
        self.index.copy_(torch.randint(len(self.x), self.index.shape, generator=self.order))
        self.running.count += len(self.index)

    def update(self) -> None:
        x, y = self.x[self.index], self.y[self.index]
        self.optimizers[0].zero_grad()
        sums = self.method.backward(partial(self.risk, y), x, 1.0)
        penalty = self.method.regularize()
        self.optimizers[0].step()
        self.method.project()
        self.running.note(sums, penalty)

    def risk(self, y: Tensor, x: Tensor, share: float) -> Sums:
        loss = (self.model(x) - y).square().mean()
        (loss * share).backward()
        return {"loss": loss.detach().double() * len(y)}

    def evaluate(self) -> Row:
        with torch.no_grad():
            errors = [
                (self.model(x) - y).square().mean().item() for x, y in ((self.x, self.y), (self.test_x, self.test_y))
            ]
        self.running.reset()
        return {"train_error": errors[0], "test_error": errors[1], "penalty": self.running.penalty.item()}

    def final(self, pieces: Pieces) -> dict[str, Any]:
        return {"weight_norm": pieces.once("weight norm", lambda: self.model[0].weight.norm().item())}

    def state_dict(self) -> dict[str, Any]:
        parts = {"model": self.model, "method": self.method, "optimizer": self.optimizers[0], "running": self.running}
        return {name: part.state_dict() for name, part in parts.items()} | {"order": self.order.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.method.load_state_dict(state["method"])
        self.optimizers[0].load_state_dict(state["optimizer"])
        self.running.load_state_dict(state["running"])
        self.order.set_state(state["order"])
