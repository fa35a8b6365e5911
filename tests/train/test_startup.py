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
"""
PLAN = """
import sys
sys.path.insert(0, "scripts")
import plan
plan.main(["experiment=table1", "seed=0", "results=/nonexistent"])
"""
SLOW = ("torch._dynamo", "sympy", "sklearn", "scipy", "pandas", "matplotlib", "torchvision", "plotly", "wandb")


def imported(program: str) -> str:
    """The names in SLOW that a process imports."""
    program += f"print([name for name in {SLOW} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


def test_no_slow_library_is_imported_before_the_first_update() -> None:
    """Each of these takes one to five seconds in every process of a sweep."""
    program = PROGRAM.format(overrides=[*TINY, "method=spectral", "results=/nonexistent"])
    assert imported(program) == "[]"


def test_no_slow_library_is_imported_by_the_dry_run() -> None:
    assert imported(PLAN) == "[]"
