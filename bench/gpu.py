"""Row 10: measurements for a GPU only, the most valuable first."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from bench.cells import Plan, configured
from bench.guard import guarded
from bench.line import Line
from bench.modes import PRECISIONS, ROW, Rates, modes, pass_sizes, precisions
from bench.packing import packing
from bench.projection import CellHours, projection, projection_at
from bench.roofline import roofline


def gpu(plan: Plan) -> Iterator[Line]:
    """Row 10."""
    hours: CellHours = {}
    rates: Rates = {}
    parts: list[tuple[Callable[[Plan], Iterator[Line]], float]] = [
        (lambda plan: projection(plan, hours), 0.30),
        (lambda plan: precisions(plan, rates), 0.15),
        (lambda plan: _at_other_precisions(plan, hours, rates), 0.0),
        (roofline, 0.10),
        (packing, 0.20),
        (modes, 0.17),
        (pass_sizes, 0.08),
    ]
    for part, weight in parts:
        here = replace(plan, budget=plan.budget * weight)
        yield from guarded(plan, ROW, "a part of row 10", partial(part, here))


def _at_other_precisions(plan: Plan, hours: CellHours, rates: Rates) -> Iterator[Line]:
    base = plan.precision or configured("setting=vgg_cifar10").train.precision
    for precision in PRECISIONS:
        if precision != base:
            yield from projection_at(plan, precision, base, hours, rates)
