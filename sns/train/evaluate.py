"""One row of the history: what is measured at every evaluation."""

import math
import time

from torch import Tensor

from sns.data.dataset import Images
from sns.measure.evaluation import evaluate, probe_indices
from sns.measure.spectrum import sigma_and_frobenius
from sns.train.running import NEVER
from sns.train.session import Session


def history_row(session: Session) -> dict[str, float]:
    """The row of `record.schema.HISTORY` after the present step; starts the next stretch of running sums."""
    began = time.perf_counter()
    images, running = session.dataset, session.running
    train, test = (
        evaluate(session.model, split.x, split.y, session.measure_size, _probe(split, session))
        for split in (images.train, images.test)
    )
    count = max(running.count, 1)
    row = {
        "epoch": session.step * session.config.batch.size / len(images.train),
        "step": session.step,
        "lr": session.rate,
        "train_loss": train.loss,
        "train_accuracy": train.accuracy,
        "test_loss": test.loss,
        "test_accuracy": test.accuracy,
        "gap": train.accuracy - test.accuracy,
        "running_train_loss": running.loss.item() / count,
        "running_train_accuracy": running.correct.item() / count,
        "train_gradient_norm": train.gradient_norm,
        "train_gradient_norm_rms": train.gradient_norm_rms,
        "test_gradient_norm": test.gradient_norm,
        "test_gradient_norm_rms": test.gradient_norm_rms,
        **sigma_and_frobenius(session.model),
        "penalty": running.penalty.item(),
    }
    running.reset()
    session.seconds["measure"] += time.perf_counter() - began
    return row | {"train_seconds": session.seconds["train"], "measure_seconds": session.seconds["measure"]}


def _probe(split: Images, session: Session) -> Tensor | None:
    count = session.config.measure.gradient_samples
    return probe_indices(len(split), count, session.device) if count < len(split) else None


def divergence(session: Session, row: dict[str, float]) -> str | None:
    """Why the run has diverged, in one sentence, or None while every number is finite."""
    bad = int(session.running.bad_step.item())
    if bad != NEVER:
        return f"the training loss stopped being finite at update {bad} of {session.total}"
    for name, value in row.items():
        if not math.isfinite(value):
            return f"{name} is not finite after update {session.step} of {session.total}"
    return None
