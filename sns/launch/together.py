"""Runs of a sweep that this process trains in turns: launch.per_process at a time."""

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace

from sns.common import accelerator
from sns.common.errors import UserError, in_one_line
from sns.config.schema import Config
from sns.launch.attempt import Fault, attempting
from sns.launch.budget import TimeBudget
from sns.launch.handover import SweepRun
from sns.train.device import choose_device
from sns.train.stop import Interrupted, StopSignal, stopping
from sns.train.turns import Place, Run, Steps, take_turns

SAME = ("device", "threads", "time_limit_minutes")  # of section train: they hold for the whole process


def train(runs: Sequence[SweepRun], budget: TimeBudget | None) -> None:
    """Trains all runs. An error of one is printed in one line, and the others go on.

    Interrupted if any was asked to stop; none is started after that. UserError where the runs
    cannot share a process.
    """
    _require_one_process([run.config for run in runs])
    first, said, stopped = runs[0].config, set[str](), list[Interrupted]()

    def steps(run: SweepRun, stop: StopSignal) -> Steps[None]:
        try:
            yield from attempting(_with_lines(run.config), run.command, in_sweep=True, stop=stop)
        except (UserError, Fault) as error:
            if str(error) not in said:
                said.add(str(error))
                print(f"error: {error} [{in_one_line(run.overrides)}]", file=sys.stderr)
        except Interrupted as interrupted:
            print(interrupted, file=sys.stderr)
            stopped.append(interrupted)

    def waiting(stop: StopSignal) -> Iterator[Run[None]]:
        for run in runs:
            if stopped or stop.received is not None:
                return
            if budget is None or budget.admits(run.config.run_id, own_process=False):
                yield Run(steps(run, stop), run.config.train.precision)

    device = accelerator.of(choose_device(first.train.device))
    with stopping(first.train.time_limit_minutes, "every run that was started") as stop:
        take_turns(waiting(stop), [Place(device) for _ in range(min(first.launch.per_process, len(runs)))])
        if stopped:
            raise Interrupted("the same command resumes the sweep", stopped[0].cause)


def _require_one_process(configs: Sequence[Config]) -> None:
    """UserError where runs need more than a process, or each a process of its own."""
    count = configs[0].launch.per_process
    if configs[0].launch.gpus_per_run > 1 or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(f"launch.per_process={count} is for runs on one GPU each: leave it at 1")
    for key in SAME:
        values = dict.fromkeys(getattr(config.train, key) for config in configs)
        if len(values) > 1:
            raise UserError(
                f"launch.per_process={count} trains runs in one process, which has one train.{key}, but this sweep has "
                f"several ({', '.join(map(str, values))}): start a sweep for each"
            )


def _with_lines(config: Config) -> Config:
    """`config` with lines in place of a progress bar, which would be several here."""
    shown = config.train.progress
    return replace(config, train=replace(config.train, progress="lines" if shown in ("auto", "bar") else shown))
