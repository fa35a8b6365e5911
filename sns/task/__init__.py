"""Tasks, one file each.

This package imports all its modules, so that a new file registers itself.
"""

import importlib
import pkgutil

from sns.task.base import TASKS, Setup, Task, register

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["TASKS", "Setup", "Task", "build", "register"]


def build(setup: Setup) -> Task:
    """The task that the configuration names, on its device."""
    return TASKS[setup.config.task.name](setup)
