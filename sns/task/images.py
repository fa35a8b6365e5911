"""What tasks share that learn from images: the data set, which a resumed run must find again."""

from typing import Any

import torch

from sns.common.errors import UserError
from sns.config.schema import DataConfig
from sns.data.dataset import Dataset, load_dataset
from sns.task.base import Setup, Task

_loaded: dict[str, Dataset] = {}  # the last data set used in this process, which the runs of a sweep share


class ImageTask(Task):
    """A task on the images of `data`."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.dataset = _dataset(setup.config.data, setup.device)

    def facts(self) -> dict[str, Any]:
        """The name, fingerprint and note of the data set."""
        images = self.dataset
        return {"data": {"name": images.name, "fingerprint": images.fingerprint, "note": images.note}}

    def state_dict(self) -> dict[str, Any]:
        """The state of every part, and which images it belongs to."""
        return {"fingerprint": self.dataset.fingerprint, **super().state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a state. UserError if it belongs to other images."""
        if state["fingerprint"] != self.dataset.fingerprint:
            raise UserError(
                f"{self.setup.config.directory} was begun on other images than {self.dataset.name} holds now: "
                "restore the data set, or move the run directory elsewhere to start over"
            )
        super().load_state_dict(state)


def _dataset(config: DataConfig, device: torch.device) -> Dataset:
    key = f"{config} on {device}"
    if key not in _loaded:
        _loaded.clear()
        _loaded[key] = load_dataset(config, device)
    return _loaded[key]
