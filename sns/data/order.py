"""The order in which training images are visited."""

from typing import Any

import torch
from torch import Tensor


class BatchOrder:
    """Indices of one full batch after another, cut from an endless stream of random permutations of
    0..n-1.

    A batch that reaches the end of a permutation goes on in the next one, so every batch has
    exactly `size` indices, also when size > n, and every run of n indices that starts at a multiple
    of n holds each image once.
    """

    def __init__(self, n: int, size: int, generator: torch.Generator, device: torch.device | str = "cpu") -> None:
        """`generator` lives on the CPU, so that devices agree on the order; ValueError unless n,
        size > 0."""
        if n <= 0 or size <= 0:
            raise ValueError(f"an order needs at least one image and one index a batch, not n={n}, size={size}")
        self.n, self.size = n, size
        self._generator = generator
        self._device = torch.device(device)
        self._set(torch.arange(0), 0)

    def _set(self, permutation: Tensor, position: int) -> None:
        self._permutation = permutation  # on the CPU, for state_dict
        # Moved once a permutation, not once a batch, and from pinned memory, so that the device is
        # not waited for.
        here = permutation.pin_memory() if self._device.type == "cuda" else permutation
        self._on_device = here.to(self._device, non_blocking=True)
        self._position = position

    def next(self) -> Tensor:
        """The indices of the next batch: (size,) int64 on the device."""
        batch = torch.empty(self.size, dtype=torch.int64, device=self._device)
        self.fill(batch)
        return batch

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
        """Everything that the following batches depend on, as tensors and plain numbers."""
        return {
            "n": self.n,
            "permutation": self._permutation.clone(),
            "position": self._position,
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues exactly where `state` was taken; ValueError if it belongs to another number of
        images."""
        if state["n"] != self.n:
            raise ValueError(f"the saved order is over {state['n']} images, this one over {self.n}")
        self._generator.set_state(state["generator"].cpu())
        self._set(state["permutation"].cpu().clone(), int(state["position"]))
