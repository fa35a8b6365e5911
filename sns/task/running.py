"""What training shows of itself between two evaluations, summed on the device."""

from typing import Any

import torch
from torch import Tensor

NEVER = torch.iinfo(torch.int64).max


class Running:
    """Sums over the training images seen since the last evaluation. `note` never waits for the
    device."""

    def __init__(self, device: torch.device) -> None:
        self.loss = torch.zeros((), dtype=torch.float64, device=device)
        self.correct = torch.zeros((), dtype=torch.int64, device=device)
        self.count = 0
        self.penalty = torch.zeros((), device=device)
        self.step = torch.zeros((), dtype=torch.int64, device=device)  # updates of the whole run
        self.bad_step = torch.full((), NEVER, device=device)  # first update whose loss was not finite

    def note(self, loss: Tensor, correct: Tensor, penalty: Tensor | None) -> None:
        """One update: summed loss (), float64, number of right answers (), value of the penalty
        ()."""
        self.loss += loss
        self.correct += correct
        if penalty is not None:
            self.penalty.copy_(penalty)
        self.step += 1
        bad = torch.where(torch.isfinite(loss), self.bad_step, torch.minimum(self.bad_step, self.step))
        self.bad_step.copy_(bad)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and counts."""
        return {name: value.clone() if isinstance(value, Tensor) else value for name, value in vars(self).items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` gave."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                value.copy_(state[name])
        self.count = state["count"]

    def reset(self) -> None:
        """Starts the next stretch; the first bad step is never forgotten."""
        self.loss.zero_()
        self.correct.zero_()
        self.count = 0
