"""What tasks share that train one network on a fixed set of examples."""

from collections.abc import Mapping

import torch
from torch import nn

from sns import method, optim
from sns.common.seed import generator
from sns.data.order import BatchOrder
from sns.optim.schedule import at_dose
from sns.task.base import Row, Sizes, Task
from sns.task.length import Length
from sns.task.running import Running


class Supervised(Task):
    """One network, one method, one optimizer, and examples that are visited in random order.

    A subclass calls `begin` in its `__init__` and provides `update` and `evaluate`.
    """

    def begin(
        self, model: nn.Module, examples: int, sums: Mapping[str, torch.dtype], sizes: Sizes | None = None
    ) -> None:
        """Sets every attribute that a task needs.

        `model`: initialised and on its device. `examples`: how many there are for training. `sums`:
        as in `Running`. `sizes`: None where memory is no concern.
        """
        config, device = self.setup.config, self.setup.device
        self.model, self.sizes = model, sizes or Sizes(config.batch.size, examples)
        self.length = Length(config.train.epochs, examples, config.batch.size)
        options = at_dose(config.method, config.optim, self.length.updates)
        self.method = method.build(options, model, generator(config.seed, "power_iteration"))
        self.method.prepare()
        self.generators = self.method.generators
        self.optimizers = [optim.build(config.optim, model.parameters())]
        self.order = BatchOrder(examples, config.batch.size, generator(config.seed, "order"), device)
        self.running = Running(device, sums)
        # The indices of the next batch, at a fixed place.
        self.index = torch.zeros(config.batch.size, dtype=torch.int64, device=device)
        self.parts |= {
            "model": model,
            "method": self.method,
            "optimizer": self.optimizers[0],
            "order": self.order,
            "running": self.running,
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
        """The indices of the next batch, and its learning rate."""
        self.method.set_rate(self.optimizers[0].rate)
        self.order.fill(self.index)
        self.running.count += len(self.index)
