"""Row 4: an epoch of ours against the usual script for it."""

import os
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import functional as F

from bench.cells import NETWORKS, Plan, cell, classified, sgd, update
from bench.guard import each_cell
from bench.line import Line, faster
from bench.pipeline import loader, pictures
from bench.timing import Work, paired
from sns.common.precision import fastest_kernels
from sns.train.session import Session


def epoch(plan: Plan) -> Iterator[Line]:
    """A few updates a round, equally many on both sides, for each network."""
    yield from each_cell(plan, 4, "epoch", _epoch)


def _epoch(plan: Plan, setting: str, regime: str) -> Iterator[Line]:
    workers = min(8 if plan.gpu else 2, os.cpu_count() or 1)
    steps = (30 if plan.gpu else 2) if regime == "small" else 2
    plain = ["train.mode=eager", "train.precision=fp32", "train.memory_format=contiguous"]
    ours, peer = cell(plan, setting, f"batch={regime}"), cell(plan, setting, f"batch={regime}", *plain)
    works: dict[str, Work] = {"ours": _several(update(ours), steps), "peer": Script(plan, peer, steps, workers)}
    budget = plan.budget / len(NETWORKS) / len(plan.batches())
    taken = paired(works, plan.device, budget, rounds=5, warm_up=2 if plan.gpu else 1)
    target = {"small": 5.0, "large": 2.0}[regime] if plan.gpu else None
    how = f"ours {ours.mode} {ours.config.train.precision}, DataLoader with {workers} workers"
    name = f"{NETWORKS[setting][0]}{' (tiny)' if plan.tiny else ''}"
    what = f"{steps} updates, {name}, B = {ours.config.batch.size}"
    yield faster(4, what, "common-practice script", taken["ours"], taken["peer"], target=target, note=how)


def _several(one: Work, steps: int) -> Work:
    def work() -> None:
        for _ in range(steps):
            one()

    return work


class Script:
    """DataLoader, eager, torch's fp32 and SGD; reads loss and accuracy at each update."""

    def __init__(self, plan: Plan, session: Session, steps: int, workers: int) -> None:
        self.session, self.steps, self.device = session, steps, plan.device
        self.optimizer = sgd(classified(session).model, session.config, fused=False)
        side, size = classified(session).dataset.image_size, session.config.batch.size
        options = session.config.data
        count = 4 * size if plan.tiny else max(4 * size, 8_192 if side < 96 else 1_024)  # several updates an epoch
        images = pictures(count, side, classified(session).dataset.classes)
        self.loader = loader(images, size, options.crop_padding, options.flip, workers, plan.device)
        self.batches: Iterator[Any] = iter(())
        self.loss = self.accuracy = 0.0

    def __call__(self) -> None:
        for _ in range(self.steps):
            self.update(*self.next())

    def next(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The next batch, from a new epoch when one has ended."""
        try:
            x, y = next(self.batches)
        except StopIteration:
            self.batches = iter(self.loader)
            x, y = next(self.batches)
        return x.to(self.device, non_blocking=True), y.to(self.device, non_blocking=True)

    @fastest_kernels()
    def update(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """One update; a large batch in the same passes as ours, else it would not fit."""
        self.optimizer.zero_grad()
        correct, total = 0, 0.0
        for part_x, part_y in zip(
            x.split(self.session.task.sizes.train), y.split(self.session.task.sizes.train), strict=True
        ):
            logits = classified(self.session).model(part_x)
            loss = F.cross_entropy(logits, part_y) * (len(part_y) / len(y))
            loss.backward()
            total += loss.item()
            correct += int((logits.argmax(dim=1) == part_y).sum().item())
        self.optimizer.step()
        self.loss, self.accuracy = total, correct / len(y)
