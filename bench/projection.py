"""Row 10: GPU-hours of the paper's whole table, from measured seconds an update and an evaluation."""

from collections.abc import Iterator

from bench.cells import NETWORKS, Plan, cell, update
from bench.line import Line
from bench.modes import ROW, release
from bench.timing import paired, seconds, spread
from sns.config import Config
from sns.measure.evaluation import evaluate
from sns.train.schedule import evaluation_steps, total_steps

METHODS = ("vanilla", "decay", "adversarial", "spectral")
LIMIT = 6.0  # GPU-hours


def projection(plan: Plan) -> Iterator[Line]:
    """A line a network and batch, its four methods together, and the sum. The measurements at the end of a run are not
    in it.
    """
    total = 0.0
    for setting, (name, _, _, train, test) in NETWORKS.items():
        for regime in ("small", "large"):
            hours, note = _hours(plan, setting, regime, train, test)
            total += hours
            what = f"projection, {name}{' (tiny)' if plan.tiny else ''}, {regime} batch, four methods"
            yield Line(ROW, what, "", "h", spread([hours]), note=note)
    hours = spread([total])
    what = "projection, all 32 cells, one seed, 300 epochs"
    yield Line(
        ROW,
        what,
        "",
        "GPU-hours",
        hours,
        figure=hours,
        kind="GPU-hours",
        target=LIMIT,
        note="without end-of-run measures",
    )


def _hours(plan: Plan, setting: str, regime: str, train: int, test: int) -> tuple[float, str]:
    budget = plan.budget / len(NETWORKS) / 2 / (len(METHODS) + 1)
    updates, spent, notes = {}, 0.0, []
    for method in METHODS:
        updates[method], config, how = _update(plan, setting, regime, method, budget)
        spent += updates[method] * total_steps(config.train.epochs, train, config.batch.size)
        notes.append(f"{method} {1e3 * updates[method]:.3g}")
    evaluations = len(evaluation_steps(config.train.epochs, config.measure.every, train, config.batch.size))
    one = _evaluation(plan, setting, train, test)
    whole = spent + evaluations * len(METHODS) * one
    share = 100 * evaluations * len(METHODS) * one / whole
    return (
        whole / 3600,
        f"ms an update: {', '.join(notes)} ({how}); {one:.3g} s an evaluation, {share:.0f}% of the time",
    )


def _update(plan: Plan, setting: str, regime: str, method: str, budget: float) -> tuple[float, Config, str]:
    """Seconds of an update, the configuration, and how it ran."""
    release(plan)
    session = cell(plan, setting, f"batch={regime}", f"method={method}")
    taken = paired({"ours": update(session)}, plan.device, budget, rounds=3)["ours"]
    return min(taken), session.config, f"{session.mode} {session.config.train.precision}, passes of {session.pass_size}"


def _evaluation(plan: Plan, setting: str, train: int, test: int) -> float:
    """Seconds of one evaluation at full size, from passes over the images at hand."""
    release(plan)
    session = cell(plan, setting, train=2_048)
    x, y = session.dataset.train.x, session.dataset.train.y
    few = session.config.measure.gradient_samples
    batch = min(session.measure.batch_size, len(x))

    def both() -> None:
        evaluate(session.model, x, y, batch, None)

    def forward() -> None:
        evaluate(session.model, x, y, batch, y.new_zeros(1))

    both()
    forward()
    with_gradient, plain = (seconds(work, plan.device) / len(x) for work in (both, forward))
    probes = min(few, train)
    return with_gradient * (probes + test) + plain * (train - probes)
