"""The time that a process needs before its first update."""

import subprocess
import sys

from conftest import ROOT, TINY

PROGRAM = """
import sys
sys.path.insert(0, "tests")
from conftest import compose_tree
from sns.train.configure import configure
from sns.train.run import advance
from sns.train.session import start
session = start(configure(compose_tree(*{overrides})))
session.task.model.train()
advance(session)
slow = ("torch._dynamo", "sympy", "sklearn", "scipy", "pandas", "matplotlib", "torchvision", "plotly", "wandb")
print([name for name in slow if name in sys.modules])
"""


def test_no_slow_library_is_imported_before_the_first_update() -> None:
    """Each of these takes one to five seconds in every process of a sweep."""
    program = PROGRAM.format(overrides=[*TINY, "method=spectral", "results=/nonexistent"])
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
