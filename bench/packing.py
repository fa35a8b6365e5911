"""Row 10: runs that share one device, in turns in one process or in several processes.

In one process each run has a stream (launch.per_process), and kernels of two runs may overlap.
Kernels of two processes take turns on a GPU without NVIDIA's MPS: expect less than 1.3 times one.

The processes are started once and get commands line by line: "prepare SETTING", "run SECONDS".
"""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO

from bench.cells import NETWORKS, ROOT, Plan, cell, configured, update
from bench.guard import guarded, release
from bench.line import FASTER, Line
from bench.timing import Spread, Work, seconds, spread
from sns.common import accelerator
from sns.train.capture import WARM_UP
from sns.train.device import choose_device
from sns.train.run import advance
from sns.train.turns import Place, Run, Steps, take_turns

ROW = 10
WORTH = 1.3  # times the throughput of one run, below which packing is not worth it


def packing(plan: Plan, settings: Sequence[str] = tuple(NETWORKS), most: int = 4) -> Iterator[Line]:
    """Images a second of k runs together, small batch, up to `most`: in one process, in k."""
    counts = [count for count in (1, 2, 4) if count <= (2 if plan.tiny else most)]
    duration = max(0.2, min(3.0, plan.budget / 4 / len(settings) / len(counts)))
    for setting in settings:
        case = partial(_in_turns, plan, counts, duration, setting)
        yield from guarded(plan, ROW, f"in turns, {NETWORKS[setting][0]}", case)
    release(plan)
    workers = [_launch(plan) for _ in range(max(counts))]
    try:
        for setting in settings:
            case = partial(_setting, plan, workers, counts, duration, setting)
            yield from guarded(plan, ROW, f"packing, {NETWORKS[setting][0]}", case)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def _setting(
    plan: Plan, workers: "list[subprocess.Popen[str]]", counts: Sequence[int], duration: float, setting: str
) -> Iterator[Line]:
    for worker in workers:
        _send(worker, f"prepare {setting}")
    sizes = [int(_answer(worker)) for worker in workers]
    totals = {count: _together(workers[:count], duration) for count in counts}
    for count in counts:
        yield _line(plan, setting, sizes[0], f"{count} at a time", totals[count] / totals[1], totals[count])


def _line(plan: Plan, setting: str, size: int, how: str, gain: float, total: float) -> Line:
    what = f"{how}, {NETWORKS[setting][0]}{' (tiny)' if plan.tiny else ''}, B = {size}"
    figure: Spread = spread([gain])
    target = None if how.startswith("1 ") else WORTH
    note = "processes" if how.endswith("time") else "one process"
    return Line(ROW, what, "one run alone", "images/s", spread([total]), None, figure, FASTER, target, note)


def _in_turns(plan: Plan, counts: Sequence[int], duration: float, setting: str) -> Iterator[Line]:
    rates: dict[int, float] = {}
    for count in counts:
        size, rates[count] = in_turns(plan, setting, count, duration)
        yield _line(plan, setting, size, f"{count} in turns", rates[count] / rates[1], rates[count])


def in_turns(plan: Plan, setting: str, count: int, duration: float) -> tuple[int, float]:
    """B, and the images a second of `count` runs that train in turns for `duration` seconds."""
    there, times, sizes = accelerator.of(plan.device), list[float](), list[int]()

    def steps() -> Steps[int]:
        session, done = cell(plan, setting, "batch=small"), 0
        sizes.append(session.config.batch.size)
        for _ in range(WARM_UP + 1):  # all runs are captured before the clock starts
            advance(session)
            yield
        if not times:
            there.synchronize()
            times.append(time.perf_counter())
        while time.perf_counter() - times[0] < duration:
            advance(session)
            done += 1
            yield
        there.synchronize()  # with the updates of all runs, which begin no more
        times.append(time.perf_counter())
        return done

    precision = plan.precision or configured(f"setting={setting}").train.precision
    runs = [Run(steps(), precision) for _ in range(count)]
    updates = sum(take_turns(runs, [Place(there) for _ in range(count)]))
    return sizes[0], updates * sizes[0] / (times[1] - times[0])


def _together(workers: "list[subprocess.Popen[str]]", duration: float) -> float:
    """Images a second of all `workers`, running at the same time."""
    for worker in workers:
        _send(worker, f"run {duration}")
    return sum(float(_answer(worker)) for worker in workers)


def _launch(plan: Plan) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "bench.packing", plan.device_name, str(plan.folder), str(int(plan.tiny))]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


def _send(worker: "subprocess.Popen[str]", line: str) -> None:
    _pipe(worker.stdin).write(line + "\n")
    _pipe(worker.stdin).flush()


def _answer(worker: "subprocess.Popen[str]") -> str:
    line = _pipe(worker.stdout).readline().strip()
    if not line:
        raise RuntimeError("a packed run ended early")
    return line


def main(device: str, folder: str, tiny: str) -> None:
    """One of the processes."""
    plan = Plan(choose_device(device), Path(folder), tiny=bool(int(tiny)))
    for line in sys.stdin:
        word, argument = line.split()
        if word == "prepare":
            release(plan)
            session = cell(plan, argument, "batch=small")
            step, size = update(session), session.config.batch.size
            single = [seconds(step, plan.device) for _ in range(6)][-1]
            print(size, flush=True)
        else:
            print(_rate(plan, step, size, single, float(argument)), flush=True)


def _rate(plan: Plan, step: Work, size: int, single: float, duration: float) -> float:
    """Images a second over `duration` seconds of updates that each take about `single` alone."""
    began, done, block = time.perf_counter(), 0, max(1, int(0.05 / single))
    while time.perf_counter() - began < duration:
        seconds(step, plan.device, block)
        done += block
    return done * size / (time.perf_counter() - began)


if __name__ == "__main__":
    main(*sys.argv[1:])
