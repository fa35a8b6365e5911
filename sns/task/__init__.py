"""Tasks, one file each.

This package imports all its modules, so that a new file registers itself.
"""

from sns.common.registry import import_modules
from sns.task.base import TASKS, Setup, Task, columns_of, register

import_modules(__name__)

__all__ = ["TASKS", "Setup", "Task", "build", "columns_of", "register"]


def build(setup: Setup) -> Task:
    """The task that the configuration names, on its device."""
    return TASKS[setup.config.task.name](setup)
