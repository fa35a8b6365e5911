"""Row 12: an update of every method against one of vanilla, on the networks of the comparison."""

from collections.abc import Iterator
from functools import partial

from bench.cells import POCKET, Plan, cell, update
from bench.guard import guarded
from bench.line import Line, times
from bench.timing import paired
from sns.common.errors import UserError
from sns.method import METHODS

ROW = 12
REGIMES = ("small", "large")


def methods(plan: Plan) -> Iterator[Line]:
    """A line for each network, batch size and method. All methods of a cell alternate in one
    process."""
    for setting in POCKET:
        for regime in REGIMES:
            case = partial(_cell, plan, setting, regime)
            yield from guarded(plan, ROW, f"methods, {setting}, {regime} batch", case)


def _cell(plan: Plan, setting: str, regime: str) -> Iterator[Line]:
    """`what` of a line is what sns/analysis/bakeoff/costs.py reads."""
    sessions, absent = {}, {}
    for name in METHODS:
        try:
            sessions[name] = cell(plan, setting, f"batch={regime}", f"method={name}")
        except UserError as error:  # a method that this network or mode does not allow
            absent[name] = str(error)
    works = {name: update(session) for name, session in sessions.items()}
    taken = paired(works, plan.device, plan.budget / len(POCKET) / len(REGIMES), rounds=15)
    size = sessions["vanilla"].config.batch.size
    for name, session in sessions.items():
        if name != "vanilla":
            note = f"{session.mode}, {session.config.train.precision}"
            what = f"{name} update, {setting}, B = {size}"
            yield times(ROW, what, "vanilla update", taken[name], taken["vanilla"], note=note)
    for name, message in absent.items():
        yield Line(ROW, f"{name} update, {setting}, B = {size}", "vanilla update", note=f"failed: {message}")
