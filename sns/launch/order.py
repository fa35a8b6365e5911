"""Which runs of a grid come first: `launch.priority`, one seed of every cell before the next, begun
before new."""

from collections.abc import Sequence

from sns.config import units as words
from sns.config.schema import Config
from sns.train import checkpoint


def rank(config: Config) -> int:
    """The place of the first entry of `launch.priority` that fits the run; after all of them where
    none does."""
    told = {
        "setting": config.setting,
        "method": config.method.name,
        "batch": config.batch.regime,
        "seed": str(config.seed),
    }
    for index, entry in enumerate(config.launch.priority):
        if all(told[key] in values for key, values in words.cells(entry).items()):
            return index
    return len(config.launch.priority)


def place(config: Config, refused: bool, seeds: Sequence[int]) -> tuple[bool, int, int, bool]:
    """What runs are sorted by; `seeds` as the grid names them, those that tie stay as they are.

    Runs that were refused last time come last (their archive is missing, say: the others need not
    wait for them). Then every cell's first seed before any cell's second, so that a table fills
    before a place of it has two runs; within a seed by rank; within a rank what has a checkpoint
    before what is new.
    """
    return refused, seeds.index(config.seed), rank(config), not checkpoint.exists(config.directory)
