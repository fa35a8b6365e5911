"""Trains a grid twice, once quietly and once under a killer, and compares the two to the bit.

    python tests/soak.py                                      # eight small runs, minutes
    python tests/soak.py --every 2 experiment=demo seed=0,1   # any grid that scripts/train.py -m would train

Every few seconds SIGKILL ends a worker chosen at random, at a moment that nobody prepared for; its
run goes back to the queue and is taken up by another process. At the end each history (less
timings), each record (less timings and whereabouts) and all final weights must equal those of the
quiet grid. Exit code 0 if they do.
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
from hydra import initialize_config_dir

from sns.config.schema import Config
from sns.launch.plan import expand
from sns.record import store
from sns.train import checkpoint
from sns.train.progress import LOG
from sns.train.run import run

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
SMALL = ["experiment=demo", "setting=digits_nin", "train.epochs=10"]
ALWAYS = ["train.device=cpu", "train.threads=1", "train.progress=none"]  # one thread: repeatable to the bit
TIMES = ["train_seconds", "measure_seconds"]
ELSEWHERE = ("timings", "memory", "environment", "command")  # what two equal runs may differ in


def work(config: Config) -> None:
    """A worker's life, if it is not cut short."""
    run(config)


def train_all(configs: list[Config], workers: int, every: float, chance: random.Random) -> tuple[int, int]:
    """Trains `configs` with a killer that strikes about `every` seconds (0: never); kills and
    starts."""
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
            # The last measurements start over when killed: a run that is struck again and again
            # gets longer peace.
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
    """Evaluations that the run's log reports, and how many of them were done more than once."""
    steps = re.findall(r" step (\d+)/", (config.directory / LOG).read_text(encoding="utf-8"))
    return len(set(steps)), len(steps) - len(set(steps))


def differences(a: Config, b: Config) -> list[str]:
    """In what the runs of `a` and `b` differ that they should not."""
    first, second = store.read(a.directory), store.read(b.directory)
    found = []
    if not first.history.drop(columns=TIMES).equals(second.history.drop(columns=TIMES)):
        found.append("history")
    for name in (field.name for field in dataclasses.fields(first.result)):
        values = [getattr(record.result, name) for record in (first, second)]
        values = [_without_times(value) for value in values]
        if name not in ELSEWHERE and values[0] != values[1]:
            found.append(f"result.{name}")
    for table in ("layers", "spectra"):
        left, right = getattr(first, table), getattr(second, table)
        if (left is None) != (right is None) or (left is not None and not left.equals(right)):
            found.append(table)
    states = [checkpoint.load(config.directory) for config in (a, b)]
    weights = [{} if state is None else state["model"] for state in states]
    if weights[0].keys() != weights[1].keys() or not weights[0]:
        found.append("names of weights")
    elif not all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0]):
        found.append("weights")
    return found


def _without_times(value: object) -> object:
    """A record's field without what the clock decided, at every depth."""
    if isinstance(value, dict):
        return {key: _without_times(inner) for key, inner in value.items() if "seconds" not in str(key)}
    return value


def soak(configs: list[Config], folder: Path, workers: int, every: float, chance: random.Random) -> bool:
    """Both grids and the comparison; whether they are equal."""
    quiet = [dataclasses.replace(config, results=str(folder / "quiet")) for config in configs]
    hard = [dataclasses.replace(config, results=str(folder / "hard")) for config in configs]
    times = []
    for grid, pace in ((quiet, 0.0), (hard, every)):
        began = time.monotonic()
        kills, starts = train_all(grid, workers, pace, chance)
        times.append(time.monotonic() - began)
        print(
            f"{'under the killer' if pace else 'quiet'}: {len(grid)} runs, {starts} starts, {kills} kills", flush=True
        )
    lost = [evaluations(config) for config in hard]
    faults = [(a.run_id, found) for a, b in zip(quiet, hard, strict=True) if (found := differences(a, b))]
    left = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.tmp"))
    print(f"wall time {times[0]:.0f} s quiet, {times[1]:.0f} s under the killer")
    print(f"evaluations {sum(done for done, _ in lost)}, done again after a kill {sum(again for _, again in lost)}")
    for run_id, found in faults:
        print(f"DIFFERENT: {run_id}: {', '.join(found)}")
    for name in left:
        print(f"LEFT OVER: {name}")
    print(f"{len(quiet) - len(faults)} of {len(quiet)} runs equal to the bit")
    return not faults and not left


def main() -> int:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2, help="processes at a time")
    parser.add_argument("--every", type=float, default=1.0, help="seconds between kills, on average")
    parser.add_argument("--seed", type=int, default=0, help="of the killer")
    parser.add_argument("--folder", type=Path, help="where to train; a temporary folder unless given")
    parser.add_argument("overrides", nargs="*", help=f"the grid; {' '.join(SMALL)} unless given")
    options = parser.parse_args()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        configs = expand([*(options.overrides or SMALL), *ALWAYS])
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        return 0 if soak(configs, folder, options.workers, options.every, random.Random(options.seed)) else 1


if __name__ == "__main__":
    sys.exit(main())
