"""From a composed configuration tree to a checked Config, with everything that is registered."""

from sns.config.compose import Known, parse
from sns.config.schema import Config, DataConfig
from sns.data.raw import DATASETS
from sns.method import METHODS
from sns.model import MODELS
from sns.optim import OPTIMIZERS
from sns.task import TASKS


def known_options() -> Known:
    """For each group of choices: its names and the dataclasses of their options."""
    registries = {"task": TASKS, "model": MODELS, "method": METHODS, "optim": OPTIMIZERS}
    options = {group: {name: cls.Config for name, cls in known.items()} for group, known in registries.items()}
    return options | {"data": dict.fromkeys(DATASETS, DataConfig)}


def configure(tree: object) -> Config:
    """A composed configuration tree, checked. ConfigError, one sentence, for any mistake in it."""
    return parse(tree, known_options())
