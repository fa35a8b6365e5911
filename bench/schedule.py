"""Row 8: the shares of evaluations and final measurements in a run at the settings' schedule."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from bench.cells import NETWORKS, TWINS, Plan, at_precision, cell, classified, configured, update
from bench.guard import each_cell
from bench.line import Line, share
from bench.timing import Work, paired, seconds
from sns.common.seed import generator
from sns.linalg.hessian import HessianResult
from sns.measure import hessian
from sns.measure.evaluation import probe_indices
from sns.measure.lipschitz import jacobian_norms
from sns.train.result import SavedPieces
from sns.train.run import advance
from sns.train.session import Session, start

EVALUATIONS, FINAL = 12.0, 15.0  # targets, percent
UPDATES = {False: 100, True: 2}  # of the small network, by Plan.tiny
IMAGES = 16  # of a timed product: STL-10's take seconds each on a CPU
TIMED = 2  # products


@dataclass(frozen=True)
class Pace:
    """Seconds an image, of the whole network for `spectra`."""

    train: float
    evaluation: float  # with its probes
    product: float  # of one Hessian
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
    products = _products(plan, setting)
    final = pace.product * samples * products + pace.jacobian * min(asked.jacobian_samples, test)
    final += pace.spectra + pace.rest * (train + test)
    whole = (between + one) * epochs / every
    note = f"{products} Hessian products a split, counted on {TWINS[setting]}; no graph kept between two"
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
    images = task.dataset
    works: dict[str, Work] = {"train": one, "evaluation": at_precision(session, session.evaluate)}
    taken = paired(works, plan.device, budget * 0.5, rounds=3)
    everything = len(images.train) + len(images.test)
    pieces = Timed(session)
    at_precision(session, lambda: task.final(pieces))()
    spectra = pieces.taken.pop("spectra")
    x = images.test.x[probe_indices(len(images.test), 4, session.device)]
    jacobian = seconds(at_precision(session, lambda: jacobian_norms(task.model, x, task.sizes.measure)), plan.device)
    return Pace(
        min(taken["train"]) / session.config.batch.size,
        min(taken["evaluation"]) / everything,
        _product(plan, session),
        jacobian / len(x),
        spectra,
        sum(pieces.taken.values()) / everything,
    )


def _product(plan: Plan, session: Session) -> float:
    """Seconds a Hessian product and image.

    No graph is kept between products: those of the whole data set do not fit into memory.
    """
    task = classified(session)
    x, y = task.dataset.train.x[:IMAGES], task.dataset.train.y[:IMAGES]
    size = min(task.sizes.measure, len(x) * hessian.MEMORY // 2)  # two passes at least: the graph of one is kept
    options = replace(session.config.measure, batch_size=size, hessian_iterations=TIMED, hessian_tolerance=1e-12)
    made: list[HessianResult] = []

    def products() -> None:
        made.append(hessian.hessian_eigenvalue(task.model, x, y, options, generator(0, "probe")))

    with patch.dict(hessian.SHARE, dict.fromkeys(hessian.SHARE, 0.0)):
        spent = seconds(at_precision(session, products), plan.device)
    return spent / made[0].iterations / len(x)


def _products(plan: Plan, setting: str) -> int:
    """The Hessian products until the eigenvalue is as exact as `setting` asks, on digits.

    A small network of the same class learns them within seconds. The network of `setting` itself
    would stay at its start on random images, where no eigenvalue of a Hessian stands out.
    """
    asked = configured(f"setting={setting}").measure
    places = [f"results={plan.folder}/results", f"train.device={plan.device_name}", "train.progress=none"]
    session = start(configured(f"setting={TWINS[setting]}", *places))
    task = classified(session)
    task.model.train()
    for _ in range(UPDATES[plan.tiny]):
        advance(session)
    options = replace(
        session.config.measure,
        batch_size=task.sizes.measure,
        hessian_tolerance=asked.hessian_tolerance,
        hessian_iterations=asked.hessian_iterations,
    )
    x, y = task.dataset.train.x, task.dataset.train.y
    iterations: int = hessian.hessian_split(task.model, x, y, options)["iterations"]
    return iterations
