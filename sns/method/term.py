"""What methods share that add a term with random numbers of its own to the loss of every pass."""

from typing import Any

import torch
from torch import Tensor, nn

from sns.method.base import Method


class TermMethod(Method):
    """A method whose `backward` adds a term to the loss and notes its value.

    Processes of one run draw the same numbers, each for its own examples. The reported penalty is
    that of the process's own examples.
    """

    second_order = True

    def __init__(self, options: Any, model: nn.Module, generator: torch.Generator) -> None:
        super().__init__(options, model, generator)
        seed = int(torch.randint(2**62, (), generator=generator))
        self.draws = torch.Generator(self.rate.device).manual_seed(seed)
        self.generators = [self.draws]
        self.noted: list[tuple[float, Tensor]] = []  # share and penalty of each pass of this update

    def note(self, penalty: Tensor, share: float) -> Tensor:
        """The penalty of a pass, (), after its value is noted for `regularize`."""
        self.noted.append((share, penalty.detach()))
        return penalty

    def regularize(self) -> Tensor:
        """The mean penalty of the passes since the last call, (). Its gradient is there already."""
        whole = sum(share for share, _ in self.noted)
        mean = torch.stack([penalty * (share / whole) for share, penalty in self.noted]).sum()
        self.noted = []
        return mean

    def state_dict(self) -> dict[str, Tensor]:
        """The state of the generator."""
        return {"projections": self.draws.get_state()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restores it."""
        self.draws.set_state(state["projections"])
