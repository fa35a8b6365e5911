"""Training metrics between two evaluations, summed on the device."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

NEVER = torch.iinfo(torch.int64).max


class Running:
    """Sums over training examples since the last evaluation. `note` never waits for the device."""

    def __init__(self, device: torch.device, sums: Mapping[str, torch.dtype]) -> None:
        """`sums`: the names and types of the sums; `loss` is one of them."""
        self.sums = {name: torch.zeros((), dtype=dtype, device=device) for name, dtype in sums.items()}
        self.count = 0  # examples
        self.penalty = torch.zeros((), device=device)
        self.step = torch.zeros((), dtype=torch.int64, device=device)  # updates of the whole run
        self.bad_step = torch.full((), NEVER, device=device)  # first update whose loss was not finite

    def zeros(self) -> dict[str, Tensor]:
        """Zero sums, (), for one update."""
        return {name: torch.zeros_like(value) for name, value in self.sums.items()}

    def note(self, update: Mapping[str, Tensor], penalty: Tensor | None) -> None:
        """Adds the sums of one update, and notes the value of its penalty, all ()."""
        for name, value in self.sums.items():
            value += update[name]
        if penalty is not None:
            self.penalty.copy_(penalty)
        self.step += 1
        finite = torch.isfinite(update["loss"])
        self.bad_step.copy_(torch.where(finite, self.bad_step, torch.minimum(self.bad_step, self.step)))

    def mean(self, name: str) -> float:
        """The sum `name` divided by the number of examples. Waits for the device."""
        return self.sums[name].item() / max(self.count, 1)

    def state_dict(self) -> dict[str, Any]:
        """The sums, the counts, the penalty and the first bad step."""
        return {
            "sums": {name: value.clone() for name, value in self.sums.items()},
            "count": self.count,
            **{name: getattr(self, name).clone() for name in ("penalty", "step", "bad_step")},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` gave."""
        for name, value in self.sums.items():
            value.copy_(state["sums"][name])
        for name in ("penalty", "step", "bad_step"):
            getattr(self, name).copy_(state[name])
        self.count = state["count"]

    def reset(self) -> None:
        """Sets the sums to zero. The first bad step stays."""
        for value in self.sums.values():
            value.zero_()
        self.count = 0
