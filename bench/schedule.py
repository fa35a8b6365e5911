"""Row 8: the shares of evaluations and final measurements in a run at the settings' schedule."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from bench.cells import NETWORKS, Plan, at_precision, cell, classified, configured, update
from bench.guard import each_cell
from bench.line import Line, share
from bench.timing import Work, paired, seconds
from sns.common.seed import generator
from sns.measure import hessian
from sns.measure.evaluation import probe_indices
from sns.measure.lipschitz import jacobian_norms
from sns.train.result import SavedPieces
from sns.train.session import Session

EVALUATIONS, FINAL = 12.0, 15.0  # targets, percent
UPDATES = {False: 10, True: 2}  # before the measurements, by Plan.tiny: the Hessian is not that of the start
IMAGES = 16  # of a Hessian: a pass over STL-10 takes seconds an image on a CPU


@dataclass(frozen=True)
class Pace:
    """Seconds an image, of the whole network for `spectra`; and the products of one Hessian."""

    train: float
    evaluation: float  # with its probes
    product: float
    products: int
    jacobian: float
    spectra: float
    rest: float  # of the final measurements


class Timed(SavedPieces):
    """Measures every piece, and notes the seconds that it took."""

    def __init__(self, session: Session) -> None:
        super().__init__(session.config.directory, 0, saved=False)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.device, self.taken = session.device, dict[str, float]()

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        made: list[Any] = []
        self.taken[name] = seconds(lambda: made.append(make()), self.device)
        return made[0]


def schedule(plan: Plan) -> Iterator[Line]:
    """Row 8: the same images in the proportions of the whole data set."""
    yield from each_cell(plan, 8, "evaluation", _schedule)


def _schedule(plan: Plan, setting: str, regime: str) -> Iterator[Line]:
    name, _, _, train, test = NETWORKS[setting]
    session = _scaled(plan, setting, regime, train, test)
    pace = _pace(plan, session, plan.budget / len(NETWORKS) / len(plan.batches()))
    config, asked = session.config, configured(f"setting={setting}").measure
    every, epochs = config.measure.every, config.train.epochs
    what = f"{name}{' (tiny)' if plan.tiny else ''}, B = {config.batch.size}"
    between, one = pace.train * train * every, pace.evaluation * (train + test)
    images = classified(session).dataset
    note = f"scaled from {len(images.train)} training images, passes of {session.task.sizes.measure}"
    yield share(
        8, f"evaluations, {what}", f"training over {every:g} epochs", one, between, target=EVALUATIONS, note=note
    )
    samples = sum(min(asked.hessian_samples, n) for n in (train, test))
    final = pace.product * samples * pace.products + pace.jacobian * min(asked.jacobian_samples, test)
    final += pace.spectra + pace.rest * (train + test)
    whole = (between + one) * epochs / every
    note = f"{pace.products} Hessian products a split, without kept graphs"
    yield share(8, f"final measurements, {what}", "training and evaluations", final, whole, target=FINAL, note=note)


def _scaled(plan: Plan, setting: str, regime: str, train: int, test: int) -> Session:
    """A session on few images, so that an evaluation takes seconds, with probes in proportion."""
    batch = 64 if regime == "small" else 4_096
    few = 64 if train < 10_000 else 128  # a CPU needs a second for a few of STL-10's large images
    count = max(2_048, 2 * batch) if plan.gpu else few
    images = {"train": count, "test": round(count * test / train)}
    asked = configured(f"setting={setting}").measure
    probes = {
        "gradient_samples": (asked.gradient_samples, train),
        "test_gradient_samples": (asked.test_gradient_samples or test, test),
        "recalibration_samples": (asked.recalibration_samples, train),
    }
    options = [
        f"measure.{key}={max(1, round(min(1.0, samples / whole) * count * whole / train))}"
        for key, (samples, whole) in probes.items()
        if samples is not None
    ]
    options += [f"batch={regime}", "measure.hessian=false", "measure.jacobian_samples=1"]  # measured apart
    return cell(plan, setting, *options, **images)


def _pace(plan: Plan, session: Session, budget: float) -> Pace:
    task, one = classified(session), update(session)
    images, until = task.dataset, time.monotonic() + budget * 0.3
    for _ in range(UPDATES[plan.tiny]):
        one()
        if time.monotonic() > until:
            break
    works: dict[str, Work] = {"train": one, "evaluation": at_precision(session, session.evaluate)}
    taken = paired(works, plan.device, budget * 0.4, rounds=3)
    everything = len(images.train) + len(images.test)
    pieces = Timed(session)
    at_precision(session, lambda: task.final(pieces))()
    spectra = pieces.taken.pop("spectra")
    x = images.test.x[probe_indices(len(images.test), 4, session.device)]
    jacobian = seconds(at_precision(session, lambda: jacobian_norms(task.model, x, task.sizes.measure)), plan.device)
    products, product = _hessian(session, plan)
    return Pace(
        min(taken["train"]) / session.config.batch.size,
        min(taken["evaluation"]) / everything,
        product,
        products,
        jacobian / len(x),
        spectra,
        sum(pieces.taken.values()) / everything,
    )


def _hessian(session: Session, plan: Plan) -> tuple[int, float]:
    """Products until the eigenvalue is as exact as configured, and seconds a product and image.

    No graph is kept between products: the whole data set's do not fit into memory.
    """
    task, found = classified(session), list[Any]()
    x, y = task.dataset.train.x[:IMAGES], task.dataset.train.y[:IMAGES]
    size = min(task.sizes.measure, len(x) * hessian.MEMORY // 2)  # two passes at least: the graph of one is kept
    options = replace(session.config.measure, batch_size=size)

    def eigenvalue() -> None:
        found.append(hessian.hessian_eigenvalue(task.model, x, y, options, generator(0, "probe")))

    with patch.dict(hessian.SHARE, dict.fromkeys(hessian.SHARE, 0.0)):
        spent = seconds(at_precision(session, eigenvalue), plan.device)
    products: int = found[0].iterations
    return products, spent / products / len(x)
