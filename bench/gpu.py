"""Row 10: what only a GPU's version measures, in the order of its worth."""

from collections.abc import Iterator
from dataclasses import replace

from bench.cells import Plan
from bench.line import Line
from bench.modes import modes, pass_sizes, precisions
from bench.packing import packing
from bench.projection import projection
from bench.roofline import roofline

PARTS = ((projection, 0.30), (precisions, 0.15), (roofline, 0.10), (packing, 0.20), (modes, 0.17), (pass_sizes, 0.08))


def gpu(plan: Plan) -> Iterator[Line]:
    """Row 10."""
    for part, weight in PARTS:
        yield from part(replace(plan, budget=plan.budget * weight))
