"""Row 10: GPU-hours of the paper's whole table, from seconds an update and an evaluation."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product

from bench.cells import NETWORKS, Plan, at_precision, cell, classified, update
from bench.guard import each_cell, release
from bench.line import Line
from bench.modes import ROW, Rates
from bench.timing import paired, seconds, spread
from sns.config.schema import Config
from sns.measure.evaluation import evaluate
from sns.task.length import Length

METHODS = ("vanilla", "decay", "adversarial", "spectral")
LIMIT = 6.0  # GPU-hours


@dataclass(frozen=True)
class Hours:
    """GPU-hours of the four methods of one network and batch."""

    training: float
    evaluation: float


CellHours = dict[tuple[str, str], Hours]


def projection(plan: Plan, measured: CellHours) -> Iterator[Line]:
    """A line a network and batch, its four methods together, and the sum. Fills `measured`.

    The measurements at the end of a run are not included.
    """
    yield from each_cell(plan, ROW, "projection", partial(_cell, measured))
    if set(measured) == set(product(NETWORKS, plan.batches())):
        total = sum(hours.training + hours.evaluation for hours in measured.values())
        yield _total("as configured", total, "training and evaluations, without the measurements at the end")


def _cell(measured: CellHours, plan: Plan, setting: str, regime: str) -> Iterator[Line]:
    name, _, _, train, test = NETWORKS[setting]
    hours, note = _hours(plan, setting, regime, train, test)
    measured[setting, regime] = hours
    what = f"projection, {name}{' (tiny)' if plan.tiny else ''}, {regime} batch, four methods"
    yield Line(ROW, what, "", "h", spread([hours.training + hours.evaluation]), note=note)


def projection_at(plan: Plan, precision: str, configured: str, measured: CellHours, rates: Rates) -> Iterator[Line]:
    """The sum at another precision, if every method speeds up as the vanilla step does.

    Evaluations keep their time. Nothing where a measurement is missing.
    """
    cells = list(product(NETWORKS, plan.batches()))
    if all(place in measured and {(*place, precision), (*place, configured)} <= rates.keys() for place in cells):
        parts = [
            measured[place].training * rates[*place, configured] / rates[*place, precision] + measured[place].evaluation
            for place in cells
        ]
        yield _total(precision, sum(parts), f"scaled from {configured} by the vanilla step")


def _total(how: str, hours: float, note: str) -> Line:
    what = f"projection, all 32 cells, one seed, 300 epochs, {how}"
    figure = spread([hours])
    return Line(ROW, what, "", "GPU-hours", figure, figure=figure, kind="GPU-hours", target=LIMIT, note=note)


def _hours(plan: Plan, setting: str, regime: str, train: int, test: int) -> tuple[Hours, str]:
    budget = plan.budget / len(NETWORKS) / 2 / (len(METHODS) + 1)
    updates, spent, notes = {}, 0.0, []
    for method in METHODS:
        updates[method], config, how = _update(plan, setting, regime, method, budget)
        length = Length(config.train.epochs, train, config.batch.size)
        spent += updates[method] * length.updates
        notes.append(f"{method} {1e3 * updates[method]:.3g}")
    evaluations = len(length.evaluations(config.measure.every))
    one = _evaluation(plan, setting, train, test)
    hours = Hours(spent / 3600, evaluations * len(METHODS) * one / 3600)
    share = 100 * hours.evaluation / (hours.training + hours.evaluation)
    update_text = f"ms an update: {', '.join(notes)} ({how})"
    return hours, f"{update_text}; {one:.3g} s an evaluation, {share:.0f}% of the time"


def _update(plan: Plan, setting: str, regime: str, method: str, budget: float) -> tuple[float, Config, str]:
    """Seconds of an update, the configuration, and how it ran."""
    release(plan)
    session = cell(plan, setting, f"batch={regime}", f"method={method}")
    taken = paired({"ours": update(session)}, plan.device, budget, rounds=3)["ours"]
    return (
        min(taken),
        session.config,
        f"{session.mode} {session.config.train.precision}, passes of {session.task.sizes.train}",
    )


def _evaluation(plan: Plan, setting: str, train: int, test: int) -> float:
    """Seconds of one evaluation at full size, from passes over the images at hand."""
    release(plan)
    session = cell(plan, setting, train=2_048)
    x, y = classified(session).dataset.train.x, classified(session).dataset.train.y
    measure = session.config.measure
    batch = min(session.task.sizes.measure, len(x))

    works = (None, y.new_zeros(1))  # gradients of all images, of one image
    both, forward = (at_precision(session, partial(evaluate, classified(session).model, x, y, batch, w)) for w in works)
    both()
    forward()
    with_gradient, plain = (seconds(work, plan.device) / len(x) for work in (both, forward))
    probes = min(measure.gradient_samples, train) + min(measure.test_gradient_samples or test, test)
    return with_gradient * probes + plain * (train + test - probes)
