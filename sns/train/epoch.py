"""The training step and the stretch of steps between two evaluations."""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from sns.data.augment import crop_and_flip
from sns.train.optim import set_learning_rate
from sns.train.session import Session


def train_step(session: Session) -> None:
    """One update: a full batch in one or several passes, the penalty, Nesterov SGD. Never waits for the device."""
    config, images = session.config, session.dataset.train
    index = session.order.next()
    x, y = images.x[index], images.y[index]
    x = crop_and_flip(x, config.data.crop_padding, config.data.flip, session.augmentation)
    session.rate = set_learning_rate(session.optimizer, session.step, session.total, config.optim)
    session.optimizer.zero_grad(set_to_none=False)
    size = config.batch.micro or len(y)
    loss = torch.zeros_like(session.running.loss)
    for part_x, part_y in zip(x.split(size), y.split(size), strict=True):
        shown = session.method.backward(part_x, part_y, len(part_y) / len(y))
        loss += shown.loss
        session.running.correct += shown.correct
    penalty = session.method.regularize()
    session.optimizer.step()
    session.step += 1
    _note(session, loss, penalty, len(y))


def _note(session: Session, loss: Tensor, penalty: Tensor | None, count: int) -> None:
    running = session.running
    running.loss += loss
    running.count += count
    if penalty is not None:
        running.penalty.copy_(penalty)
    bad = torch.where(torch.isfinite(loss), running.bad_step, running.bad_step.clamp_max(session.step))
    running.bad_step.copy_(bad)


def train_until(session: Session, target: int, pause: Callable[[], bool]) -> bool:
    """Updates up to step `target`, or until `pause()` holds after an update; whether the target was reached."""
    session.model.train()
    began = time.perf_counter()
    reached = session.step >= target
    while not reached:
        train_step(session)
        reached = session.step >= target
        if pause():
            break
    if session.device.type == "cuda":
        torch.cuda.synchronize(session.device)
    session.seconds["train"] += time.perf_counter() - began
    return reached
