"""What tasks share that train networks on a fixed set of examples."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from sns import method, optim
from sns.common.seed import generator
from sns.data.order import BatchOrder
from sns.optim.schedule import at_dose
from sns.task.base import Row, Sizes, Task
from sns.task.length import Length
from sns.task.running import Running


class ExampleTask(Task):
    """Networks of one model, one method, and examples that are visited in random order."""

    def begin(
        self,
        model: nn.Module,
        networks: Sequence[nn.Module],
        examples: int,
        sums: Mapping[str, torch.dtype],
        sizes: Sizes,
        batches: int = 1,
    ) -> None:
        """Sets every attribute that a task needs.

        `model`: initialised and on its device. `networks`: its parts with an optimizer each; the
        method acts on the first. `examples`: how many there are for training. `sums`: as in
        `Running`. `batches`: how many an update draws.
        """
        config, device = self.setup.config, self.setup.device
        self.model, self.sizes = model, sizes
        self.length = Length(config.train.epochs, examples, config.batch.size)
        options = at_dose(config.method, config.optim, self.length.updates)
        self.method = method.build(options, networks[0], generator(config.seed, "power_iteration"))
        self.method.prepare()
        self.generators = self.method.generators
        self.optimizers = [optim.build(config.optim, network.parameters()) for network in networks]
        count = batches * config.batch.size
        self.order = BatchOrder(examples, count, generator(config.seed, "order"), device)
        self.running = Running(device, sums)
        # The indices of the next examples, at a fixed place.
        self.index = torch.zeros(count, dtype=torch.int64, device=device)
        first, *others = self.optimizers
        self.parts |= {
            "model": model,
            "method": self.method,
            "optimizer": first,
            "order": self.order,
            "running": self.running,
            **{f"optimizer {number}": other for number, other in enumerate(others, start=2)},
        }
        model.train()

    @property
    def factor(self) -> float | None:
        """lambda of the method's penalty, for its dose."""
        return self.method.mean_factor()

    def measures(self) -> Row:
        """The values of the method's own columns."""
        return self.method.measures()

    def draw(self) -> None:
        """The indices of the next examples, and the learning rate."""
        self.method.set_rate(self.optimizers[0].rate)
        self.order.fill(self.index)
        self.running.count += len(self.index)


class Supervised(ExampleTask):
    """One network, one method, one optimizer, and examples that are visited in random order.

    A subclass calls `begin` in its `__init__` and provides `update` and `evaluate`.
    """

    def begin(  # type: ignore[override]
        self, model: nn.Module, examples: int, sums: Mapping[str, torch.dtype], sizes: Sizes | None = None
    ) -> None:
        """As ExampleTask, for one network. `sizes`: None where memory is no concern."""
        sizes = sizes or Sizes(self.setup.config.batch.size, examples)
        super().begin(model, [model], examples, sums, sizes)
