"""From a composed configuration tree to a checked Config, using the registries of all packages."""

from sns.config.compose import Registered, parse
from sns.config.schema import Config, DataConfig
from sns.data.raw import DATASETS
from sns.method import METHODS
from sns.model import MODELS
from sns.optim import OPTIMIZERS
from sns.optim.schedule import at_dose
from sns.task import TASKS


def registered_options() -> Registered:
    """For each group of choices: the registered names and the dataclasses of their options."""
    registries = {"task": TASKS, "model": MODELS, "method": METHODS, "optim": OPTIMIZERS}
    options = {group: {name: cls.Config for name, cls in entries.items()} for group, entries in registries.items()}
    return options | {"data": dict.fromkeys(DATASETS, DataConfig)}


def configure(tree: object) -> Config:
    """A composed configuration tree, checked. ConfigError, one sentence, for any mistake in it."""
    config = parse(tree, registered_options())
    at_dose(config.method, config.optim, updates=1)  # its error now, not at the start of the run
    return config
