"""Row 10, several processes: runs that share one device."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import torch

from bench.cells import NETWORKS, ROOT, Plan, cell, update
from bench.line import FASTER, Line
from bench.timing import seconds, spread

ROW = 10
SETTINGS = ("nin_cifar100", "densenet40_cifar100", "vgg_cifar10", "densenet22_stl10")
WORTH = 1.3  # times the throughput of one run, or packing is not worth its trouble


def packing(plan: Plan) -> Iterator[Line]:
    """Images a second of k processes together, B = 64."""
    counts = (1, 2) if plan.tiny else (1, 2, 4, 8)
    each = plan.budget / len(SETTINGS) / len(counts)
    for setting in SETTINGS:
        alone = None
        for count in counts:
            rates = together(plan, setting, count, duration=max(0.3, min(3.0, each / 4)))
            alone = sum(rates) if alone is None else alone
            gain = spread([sum(rates) / alone])
            name = f"{count} runs at a time, {NETWORKS[setting][0]}{' (tiny)' if plan.tiny else ''}, small batch"
            target = WORTH if count == max(counts) else None
            total = spread([sum(rates)])
            yield Line(
                ROW, name, "one run alone", "images/s", total, figure=gain, kind=FASTER, target=target, note="together"
            )


def together(plan: Plan, setting: str, count: int, duration: float) -> list[float]:
    """Images a second of each of `count` processes that run at the same time."""
    command = [sys.executable, "-m", "bench.packing", str(plan.device), str(plan.folder), setting, str(duration)]
    command += ["tiny"] if plan.tiny else []
    workers = [_launch(command) for _ in range(count)]
    try:
        for worker in workers:
            _expect(worker, "ready")
        for worker in workers:
            _pipe(worker.stdin).write("go\n")
            _pipe(worker.stdin).flush()
        return [float(_pipe(worker.stdout).readline()) for worker in workers]
    finally:
        for worker in workers:
            worker.communicate(timeout=120)


def _launch(command: list[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _pipe(pipe: "IO[str] | None") -> "IO[str]":
    assert pipe is not None
    return pipe


def _expect(worker: "subprocess.Popen[str]", word: str) -> None:
    line = _pipe(worker.stdout).readline().strip()
    if line != word:
        raise RuntimeError(f"a packed run said {line!r} where {word!r} was due")


def main(arguments: list[str]) -> None:
    """One of the processes: warms up, waits for the word, runs for a while, prints its images a second."""
    device, folder, setting, duration, *tiny = arguments
    plan = Plan(torch.device(device), Path(folder), tiny=bool(tiny))
    session = cell(plan, setting, "batch=small")
    step = update(session)
    for _ in range(6):
        single = seconds(step, plan.device)
    print("ready", flush=True)
    sys.stdin.readline()
    began, done = time.perf_counter(), 0
    block = max(1, int(0.1 / single))
    while time.perf_counter() - began < float(duration):
        seconds(step, plan.device, block)
        done += block
    print(done * session.config.batch.size / (time.perf_counter() - began), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
