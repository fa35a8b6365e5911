"""The files and commands that CONTRIBUTING.md shows."""

import re
import sys
from pathlib import Path
from types import ModuleType

BLOCKS = re.compile(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", re.DOTALL)
TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
FILES: dict[str, str] = dict(BLOCKS.findall(TEXT))
COMMANDS = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)[0].splitlines()


def load(path: str) -> ModuleType:
    """The file `path` as a module, as if it lay there: what it registers is registered."""
    module = ModuleType(path.removesuffix(".py").replace("/", "."))
    sys.modules[module.__name__] = module
    exec(compile(FILES[path], path, "exec"), module.__dict__)
    return module
