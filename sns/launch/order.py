"""Which runs of a sweep come first: by `launch.priority`, the first seed of every cell before the
second, runs with a checkpoint before new ones."""

from collections.abc import Sequence

from sns.config import units
from sns.config.schema import Config
from sns.train import checkpoint


def rank(config: Config) -> int:
    """The index of the first entry of `launch.priority` that fits the run; their number where none
    fits."""
    values = {
        "setting": config.setting,
        "method": config.method.name,
        "batch": config.batch.regime,
        "seed": str(config.seed),
    }
    for index, entry in enumerate(config.launch.priority):
        if all(values[key] in allowed for key, allowed in units.cells(entry).items()):
            return index
    return len(config.launch.priority)


def place(config: Config, refused: bool, seeds: Sequence[int]) -> tuple[bool, int, int, bool]:
    """The key by which runs are sorted; runs with equal keys keep their order.

    `seeds`: in the order of the command line.

    Runs that were refused come last: the others need not wait for a missing archive, say. Then the
    first seed of every cell comes before the second of any, so that a table fills evenly. Within a
    seed the rank decides; within a rank runs with a checkpoint come before new ones.
    """
    return refused, seeds.index(config.seed), rank(config), not checkpoint.exists(config.directory)
