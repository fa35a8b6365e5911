"""Trains a sweep twice, once undisturbed and once with random kills, and compares bit by bit.

    python tests/soak.py                                      # eight small runs, minutes
    python tests/soak.py --every 2 experiment=demo seed=0,1   # any sweep of scripts/train.py -m

Every few seconds SIGKILL ends a random worker. Its run returns to the queue, and another process
resumes it. At the end all histories, records and final weights must equal those of the undisturbed
sweep, except for timings and the machine. The exit code is 0 if they do.
"""

import argparse
import collections
import dataclasses
import multiprocessing
import os
import random
import re
import signal
import sys
import tempfile
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from sns.config.schema import Config
from sns.launch.sweep import dry_run
from sns.record import store
from sns.train import checkpoint
from sns.train.progress import LOG
from sns.train.run import run

SMALL = ["experiment=demo", "setting=digits_nin", "train.epochs=10"]
ALWAYS = ["train.device=cpu", "train.threads=1", "train.progress=none"]  # one thread: repeatable to the bit
TIMES = ["train_seconds", "measure_seconds"]
ELSEWHERE = ("timings", "memory", "environment", "command")  # what two equal runs may differ in


def work(config: Config) -> None:
    """The work of one process."""
    run(config)


def train_all(configs: list[Config], workers: int, every: float, chance: random.Random) -> tuple[int, int]:
    """Trains `configs` and kills a worker about every `every` seconds (0: never).

    Returns the numbers of kills and of started processes.
    """
    context = multiprocessing.get_context("forkserver")  # imports once, then forks: a restart costs no seconds
    context.set_forkserver_preload(["sns.train.run", "torch._dynamo"])  # the second, slow to import, comes with torch
    queue = collections.deque(configs)
    live: dict[BaseProcess, Config] = {}
    spared: collections.Counter[str] = collections.Counter()
    kills = starts = 0
    strike = time.monotonic() + every * chance.uniform(0.2, 1.8)
    while queue or live:
        while queue and len(live) < workers:
            config = queue.popleft()
            process = context.Process(target=work, args=(config,))
            process.start()
            live[process] = config
            starts += 1
        time.sleep(0.01)
        if every > 0 and time.monotonic() > strike:
            victim = chance.choice(list(live))
            # A kill repeats the measurement under way, so a run that was killed often is spared.
            spared[live[victim].run_id] += 1
            if chance.random() < 5 / spared[live[victim].run_id]:
                assert victim.pid is not None
                os.kill(victim.pid, signal.SIGKILL)
            strike = time.monotonic() + every * chance.uniform(0.2, 1.8)
        for process in [process for process in live if process.exitcode is not None]:
            config = live.pop(process)
            if process.exitcode == -signal.SIGKILL:
                kills += 1
                queue.append(config)
            elif process.exitcode != 0:
                raise SystemExit(f"{config.run_id} ended with exit code {process.exitcode}")
    return kills, starts


def evaluations(config: Config) -> tuple[int, int]:
    """The number of evaluations in the run's log, and of those that were repeated."""
    steps = re.findall(r" step (\d+)/", (config.directory / LOG).read_text(encoding="utf-8"))
    return len(set(steps)), len(steps) - len(set(steps))


def differences(a: Config, b: Config) -> list[str]:
    """The names of what differs between the runs of `a` and `b` and should be equal."""
    first, second = store.read(a.directory), store.read(b.directory)
    different = []
    if not first.history.drop(columns=TIMES).equals(second.history.drop(columns=TIMES)):
        different.append("history")
    for name in (field.name for field in dataclasses.fields(first.result)):
        values = [getattr(record.result, name) for record in (first, second)]
        values = [_without_times(value) for value in values]
        if name not in ELSEWHERE and values[0] != values[1]:
            different.append(f"result.{name}")
    for table in ("layers", "spectra"):
        left, right = getattr(first, table), getattr(second, table)
        if (left is None) != (right is None) or (left is not None and not left.equals(right)):
            different.append(table)
    states = [checkpoint.load(config.directory) for config in (a, b)]
    weights = [{} if state is None else state["task"]["model"] for state in states]
    if weights[0].keys() != weights[1].keys() or not weights[0]:
        different.append("names of weights")
    elif not all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0]):
        different.append("weights")
    return different


def _without_times(value: object) -> object:
    """A record's field without times, at every depth."""
    if isinstance(value, dict):
        return {key: _without_times(inner) for key, inner in value.items() if "seconds" not in str(key)}
    return value


def soak(configs: list[Config], folder: Path, workers: int, every: float, chance: random.Random) -> bool:
    """Trains both sweeps and compares them. Returns whether they are equal."""
    quiet = [dataclasses.replace(config, results=str(folder / "quiet")) for config in configs]
    hard = [dataclasses.replace(config, results=str(folder / "hard")) for config in configs]
    times = []
    for sweep, every_now in ((quiet, 0.0), (hard, every)):
        began = time.monotonic()
        kills, starts = train_all(sweep, workers, every_now, chance)
        times.append(time.monotonic() - began)
        print(
            f"{'under the killer' if every_now else 'quiet'}: {len(sweep)} runs, {starts} starts, {kills} kills",
            flush=True,
        )
    lost = [evaluations(config) for config in hard]
    different = [(a.run_id, names) for a, b in zip(quiet, hard, strict=True) if (names := differences(a, b))]
    left = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.tmp"))
    print(f"wall time {times[0]:.0f} s quiet, {times[1]:.0f} s under the killer")
    print(f"evaluations {sum(done for done, _ in lost)}, done again after a kill {sum(again for _, again in lost)}")
    for run_id, names in different:
        print(f"DIFFERENT: {run_id}: {', '.join(names)}")
    for name in left:
        print(f"LEFT OVER: {name}")
    print(f"{len(quiet) - len(different)} of {len(quiet)} runs equal to the bit")
    return not different and not left


def main() -> int:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2, help="processes at a time")
    parser.add_argument("--every", type=float, default=1.0, help="seconds between kills, on average")
    parser.add_argument("--seed", type=int, default=0, help="of the killer")
    parser.add_argument("--folder", type=Path, help="where to train; a temporary folder unless given")
    parser.add_argument("overrides", nargs="*", help=f"the sweep; {' '.join(SMALL)} unless given")
    options = parser.parse_args()
    runs, errors = dry_run([*(options.overrides or SMALL), *ALWAYS])
    assert not errors, errors
    configs = [run.config for run in runs]
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        return 0 if soak(configs, folder, options.workers, options.every, random.Random(options.seed)) else 1


if __name__ == "__main__":
    sys.exit(main())
