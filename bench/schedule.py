"""Row 8: the share of evaluation in a run at the settings' schedule."""

from collections.abc import Iterator
from dataclasses import dataclass

from bench.cells import NETWORKS, Plan, at_precision, cell, classified, configured, update
from bench.guard import each_cell
from bench.line import Line, share
from bench.timing import Work, paired, seconds
from sns.common.seed import generator
from sns.config.schema import MeasureConfig
from sns.measure.hessian import hessian_eigenvalue
from sns.measure.spectrum import layer_table, singular_values, spectra_table
from sns.train.session import Session

LIMIT = 15.0  # percent


@dataclass(frozen=True)
class Pace:
    """Seconds an image: of training, of an evaluation with its probes, of one Hessian product."""

    train: float
    evaluation: float
    product: float
    spectra: float  # of the whole network, once


def schedule(plan: Plan) -> Iterator[Line]:
    """Row 8: the same images in the proportions of the whole data set."""
    yield from each_cell(plan, 8, "evaluation", _schedule)


def _schedule(plan: Plan, setting: str, regime: str) -> Iterator[Line]:
    name, _, _, train, test = NETWORKS[setting]
    session = _scaled(plan, setting, regime, train, test)
    pace = _pace(plan, session, plan.budget / len(NETWORKS) / len(plan.batches()))
    config = session.config
    every, epochs, products = config.measure.every, config.train.epochs, config.measure.hessian_iterations
    what = f"{name}{' (tiny)' if plan.tiny else ''}, B = {config.batch.size}"
    between, one = pace.train * train * every, pace.evaluation * (train + test)
    note = (
        f"scaled from {len(classified(session).dataset.train)} training images, passes of {session.task.sizes.measure}"
    )
    yield share(8, f"evaluation, {what}", f"training over {every:g} epochs", one, between, target=LIMIT, note=note)
    samples = sum(min(config.measure.hessian_samples, n) for n in (train, test))
    final = pace.product * samples * products + pace.spectra
    whole = (between + one) * epochs / every
    note = f"{products} Hessian products a split, the most allowed"
    yield share(8, f"final measurements at most, {what}", "training and evaluations", final, whole, note=note)


def _scaled(plan: Plan, setting: str, regime: str, train: int, test: int) -> Session:
    """A session on few images, so that an evaluation takes seconds, with probes in proportion."""
    batch = 64 if regime == "small" else 4_096
    few = 64 if train < 10_000 else 128  # a CPU needs a second for a few of STL-10's large images
    count = max(2_048, 2 * batch) if plan.gpu else few
    images = {"train": count, "test": round(count * test / train)}
    asked = configured(f"setting={setting}").measure
    shares = asked.gradient_samples / train, (asked.test_gradient_samples or test) / test
    sampled = [max(1, round(min(1.0, part) * n)) for part, n in zip(shares, images.values(), strict=True)]
    probes = [f"measure.gradient_samples={sampled[0]}", f"measure.test_gradient_samples={sampled[1]}"]
    return cell(plan, setting, f"batch={regime}", *probes, **images)


def _pace(plan: Plan, session: Session, budget: float) -> Pace:
    images, one = classified(session).dataset, update(session)
    works: dict[str, Work] = {"train": one, "evaluation": at_precision(session, session.evaluate)}
    taken = paired(works, plan.device, budget * 0.7, rounds=3)
    per_image = min(taken["train"]) / session.config.batch.size
    evaluation = min(taken["evaluation"]) / (len(images.train) + len(images.test))
    options = MeasureConfig(hessian_iterations=1, batch_size=session.task.sizes.measure)
    x, y = images.train.x[:64], images.train.y[:64]

    def product() -> None:
        hessian_eigenvalue(classified(session).model, x, y, options, generator(0, "probe"))

    def spectra() -> None:
        values = singular_values(classified(session).model)
        layer_table(classified(session).model, tuple(images.train.x.shape[1:]), values)
        spectra_table(values)

    product_seconds = seconds(at_precision(session, product), plan.device) / len(y)
    spectra_seconds = seconds(at_precision(session, spectra), plan.device) if plan.gpu or plan.tiny else 0.0
    return Pace(per_image, evaluation, product_seconds, spectra_seconds)
