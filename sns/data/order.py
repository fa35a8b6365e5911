"""The order in which training images are visited."""

from typing import Any

import torch
from torch import Tensor

from sns.common import accelerator


class BatchOrder:
    """Batches of indices, cut from an endless sequence of random permutations of 0..n-1.

    Every batch has exactly `size` indices, also when size > n: at the end of a permutation it
    continues in the next one. Any n indices that start at a multiple of n hold each image once.
    """

    def __init__(self, n: int, size: int, generator: torch.Generator, device: torch.device | str = "cpu") -> None:
        """`generator` is on the CPU, so that devices agree; ValueError unless n, size > 0."""
        if n <= 0 or size <= 0:
            raise ValueError(f"an order needs at least one image and one index a batch, not n={n}, size={size}")
        self.n, self.size = n, size
        self._generator = generator
        self._device = torch.device(device)
        self._set(torch.arange(0), 0)

    def _set(self, permutation: Tensor, position: int) -> None:
        self._permutation = permutation  # on the CPU, for state_dict
        # Copied once a permutation, not once a batch, and from pinned memory, to avoid a wait.
        self._on_device = accelerator.of(self._device).pinned(permutation).to(self._device, non_blocking=True)
        self._position = position

    def fill(self, batch: Tensor) -> None:
        """Writes the indices of the next batch into `batch`, (size,) int64 on the device."""
        done = 0
        while done < self.size:
            if self._position == len(self._permutation):
                self._set(torch.randperm(self.n, generator=self._generator), 0)
            piece = self._on_device[self._position : self._position + self.size - done]
            batch[done : done + len(piece)].copy_(piece)
            self._position += len(piece)
            done += len(piece)

    def state_dict(self) -> dict[str, Any]:
        """Everything that later batches depend on, as tensors and plain numbers."""
        return {
            "n": self.n,
            "permutation": self._permutation.clone(),
            "position": self._position,
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues exactly where `state` was taken; ValueError for another number of images."""
        if state["n"] != self.n:
            raise ValueError(f"the saved order is for {state['n']} images, this one for {self.n}")
        self._generator.set_state(state["generator"].cpu())
        self._set(state["permutation"].cpu().clone(), int(state["position"]))
