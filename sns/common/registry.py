"""Things that register themselves by name: a new file of a package is all that a new one needs."""

import importlib
import pkgutil
from collections.abc import Callable
from types import ModuleType
from typing import TypeVar

T = TypeVar("T")
C = TypeVar("C")


class Registry(dict[str, T]):
    """Classes or functions by name. `kind`, such as "method", is a word for messages."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def register(self, name: str) -> Callable[[C], C]:
        """A decorator that enters a class or function as `name`. ValueError if another has it."""

        def add(entry: C) -> C:
            existing: object = self.setdefault(name, entry)  # type: ignore[arg-type]
            if existing is not entry:
                raise ValueError(f"the {self.kind} {name!r} is already registered")
            return entry

        return add


def import_modules(package: str) -> dict[str, ModuleType]:
    """Imports every module of `package`. Returns them by the last part of their names."""
    names = [module.name for module in pkgutil.iter_modules(importlib.import_module(package).__path__)]
    return {name: importlib.import_module(f"{package}.{name}") for name in names}
