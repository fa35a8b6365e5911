"""The stretch of updates between two evaluations."""

import time
from collections.abc import Callable

import torch

from sns.train.session import Session


def train_until(session: Session, target: int, pause: Callable[[], bool]) -> bool:
    """Updates up to step `target`, or until `pause()` holds after an update; whether the target was
    reached."""
    session.model.train()
    began = time.perf_counter()
    reached = session.step >= target
    while not reached:
        session.advance()
        reached = session.step >= target
        if pause():
            break
    if session.device.type == "cuda":
        torch.cuda.synchronize(session.device)
    session.seconds["train"] += time.perf_counter() - began
    return reached
