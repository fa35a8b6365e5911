"""One row of the history: what is measured at every evaluation."""

import itertools
import math
import time
from collections.abc import Mapping, Sequence

from sns.common.ranks import Ranks
from sns.data.dataset import Images
from sns.measure.evaluation import Evaluation, evaluate, probe_indices
from sns.measure.spectrum import sigma_and_frobenius
from sns.task.running import NEVER
from sns.train.session import Session


def history_row(session: Session) -> dict[str, float]:
    """The row of `record.schema.HISTORY` after the present step; starts the next stretch of running
    sums."""
    began = time.perf_counter()
    images, running = session.dataset, session.running
    session.ranks.require_equal(session.model)
    measure = session.config.measure
    train = shared_evaluation(session, images.train, measure.gradient_samples)
    test = shared_evaluation(session, images.test, measure.test_gradient_samples or len(images.test))
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


def longest_evaluation(history: Sequence[Mapping[str, float]]) -> float:
    """Seconds that the longest evaluation so far took; 0 before the first."""
    marks = [0.0, *(row["measure_seconds"] for row in history)]
    return max((after - before for before, after in itertools.pairwise(marks)), default=0.0)


def shared_evaluation(session: Session, split: Images, count: int) -> Evaluation:
    """`evaluate` of all images of `split`, each rank doing its part; gradient norms of `count` of
    them."""
    ranks, size = session.ranks, session.measure_size
    whole = count >= len(split)  # every image is in the sample of gradient norms
    sample = probe_indices(len(split), count, session.device)
    if ranks.world == 1:
        return evaluate(session.model, split.x, split.y, size, None if whole else sample)
    parts = [Ranks(i, ranks.world).bounds(len(split)) for i in range(ranks.world)]
    samples = [sample[(sample >= start) & (sample < stop)] for start, stop in parts]
    if min(len(part) for part in samples) == 0:  # too few to share: everyone does it all
        return evaluate(session.model, split.x, split.y, size, None if whole else sample)
    start, stop = parts[ranks.rank]
    own = samples[ranks.rank] - start
    mine = evaluate(session.model, split.x[start:stop], split.y[start:stop], size, None if whole else own)
    n, k = stop - start, len(own)
    sums = ranks.sums([mine.loss * n, mine.accuracy * n, mine.gradient_norm * k, mine.gradient_norm_rms**2 * k])
    n, k = len(split), len(sample)
    return Evaluation(sums[0] / n, sums[1] / n, sums[2] / k, (sums[3] / k) ** 0.5)


def divergence(session: Session, row: dict[str, float]) -> str | None:
    """Why the run has diverged, in one sentence, or None while every number is finite."""
    bad = int(session.running.bad_step.item())
    if bad != NEVER:
        return f"the training loss stopped being finite at update {bad} of {session.total}"
    for name, value in row.items():
        if not math.isfinite(value):
            return f"{name} is not finite after update {session.step} of {session.total}"
    return None
