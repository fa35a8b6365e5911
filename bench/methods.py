"""An update of every method against one of vanilla: row 12, on the networks of the comparison;
row 13, on the discriminator of a GAN."""

from collections.abc import Iterable, Iterator
from functools import partial

from bench.cells import GANS, POCKET, Plan, cell, update
from bench.guard import guarded
from bench.line import Line, times
from bench.timing import paired
from sns.analysis.sngan.runs import METHODS as GAN_METHODS
from sns.common.errors import UserError
from sns.method import METHODS

ROW, GAN_ROW = 12, 13
ADAM = "adam_a"  # five updates of the discriminator for each of the generator
CLASSIFIER_METHODS = [name for name in METHODS if name not in ("gan_gp", "wgan_gp")]  # those need one output
REGIMES = ("small", "large")


def methods(plan: Plan) -> Iterator[Line]:
    """A line for each network, batch size and method. All methods of a cell alternate in one
    process."""
    for setting in POCKET:
        for regime in REGIMES:
            share = 1 / len(POCKET) / len(REGIMES)
            case = partial(_cell, plan, ROW, setting, (f"batch={regime}",), CLASSIFIER_METHODS, share)
            yield from guarded(plan, ROW, f"methods, {setting}, {regime} batch", case)


def gan_methods(plan: Plan) -> Iterator[Line]:
    """A line for each method of the SN-GAN experiments, under Adam setting A."""
    for setting in GANS:
        case = partial(_cell, plan, GAN_ROW, setting, (f"optim={ADAM}",), GAN_METHODS, 1 / len(GANS))
        yield from guarded(plan, GAN_ROW, f"methods, {setting}", case)


def _cell(
    plan: Plan, row: int, setting: str, words: tuple[str, ...], methods: Iterable[str], share: float
) -> Iterator[Line]:
    """The lines of one network and batch size, in `share` of the row's time. `what` of a line is
    what sns/analysis/bakeoff/costs.py reads."""
    sessions, absent = {}, {}
    for name in methods:
        try:
            sessions[name] = cell(plan, setting, *words, f"method={name}")
        except UserError as error:  # a method that this network or mode does not allow
            absent[name] = str(error)
    works = {name: update(session) for name, session in sessions.items()}
    taken = paired(works, plan.device, plan.budget * share, rounds=15)
    size = sessions["vanilla"].config.batch.size
    for name, session in sessions.items():
        if name != "vanilla":
            note = f"{session.mode}, {session.config.train.precision}"
            what = f"{name} update, {setting}, B = {size}"
            yield times(row, what, "vanilla update", taken[name], taken["vanilla"], note=note)
    for name, message in absent.items():
        yield Line(row, f"{name} update, {setting}, B = {size}", "vanilla update", note=f"failed: {message}")
