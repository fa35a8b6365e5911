"""A sweep from its runs to its exit code: what is launched, what is tried again, what came of it.

A run is judged by its own directory alone, never by what a launcher or a scheduler says of it.
"""

import os
import sys
from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import torch

from sns.common.errors import UserError
from sns.data.identity import require_same_images
from sns.launch import estimate, manifest, needs, order, slurm
from sns.launch.attempt import write_down
from sns.launch.budget import TimeBudget, end_in_time
from sns.launch.handover import SweepRun
from sns.record import attempts, store
from sns.record.environment import describe
from sns.record.state import RunState
from sns.train.stop import RESUMABLE, Interrupted

Launch = Callable[[Sequence[SweepRun]], None]
States = dict[SweepRun, RunState]


class Sweep:
    """The runs of one sweep, launched until another attempt would change nothing."""

    def __init__(
        self, runs: Sequence[SweepRun], command: Sequence[str], budget: TimeBudget | None = None, here: bool = True
    ) -> None:
        """`command`: the words of the command line. `budget`: the time for all runs, if there is a
        limit. `here`: whether the runs train on this machine, where their needs can be checked.
        """
        self.runs = list({run.config.run_id: run for run in runs}.values())
        self.command, self.budget, self.here = command, budget, here
        self.foreign: set[SweepRun] = set()  # finished on other images than those of the command

    def run(self, launch: Launch) -> int:
        """Launches what is to do, round after round.

        The exit code: 0 where all runs are finished, 75 where a later call can continue, 1 where a
        run failed or waits for the user.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            return self._run_shared(launch)
        states = self._states(self.runs)
        self._compare_images(states)
        todo = self._in_order([run for run, state in states.items() if state.retry], states)
        self._write_manifests()
        lacking = self._check_needs(todo) if self.here and todo else {}
        todo = [run for run in todo if run not in lacking]
        print(f"{_counts(states.values())}; launching {len(todo)}", flush=True)
        stop, idle = False, list[SweepRun]()
        while todo and not stop:
            begun = {run: _begun(run) for run in todo}
            stop = self._round(launch, todo)
            states |= self._states(todo)
            idle += [run for run in todo if _begun(run) == begun[run] and states[run].retry]
            todo = [run for run in todo if _begun(run) > begun[run]]
            stop |= any(states[run].name == "stopped" for run in todo)
            todo = [run for run in todo if states[run].retry and not states[run].refused]
        # A run that was launched and that no process began will not begin the next time either.
        return self._report(states, [] if stop or self.budget is not None else idle, lacking)

    def _check_needs(self, todo: Sequence[SweepRun]) -> dict[SweepRun, str]:
        """Prints how long the runs take, where that is long, and what is missing; the runs that
        cannot start, with why."""
        launch = todo[0].config.launch
        with suppress(UserError):  # a device that is not here, which is reported below
            long = estimate.warning([run.config for run in todo])
            if long is not None:
                print(long, flush=True)
        with end_in_time(launch, lambda: f"launch.budget={launch.budget} is spent before the data sets are here"):
            lacking = needs.missing(todo)
        for line in needs.lines(lacking):
            print(f"error: {line}", file=sys.stderr)
        room = needs.disk([run.config for run in todo if run not in lacking])
        if room is not None:
            print(f"warning: {room}", file=sys.stderr)
        return lacking

    def _compare_images(self, states: States) -> None:
        """Reports each finished run that belongs to other images."""
        for run, state in states.items():
            try:
                if state.result is not None:
                    require_same_images(run.config, store.Record(run.config.directory, state.result))
            except UserError as error:
                self.foreign.add(run)
                print(f"error: {error}", file=sys.stderr)

    def _states(self, runs: Sequence[SweepRun]) -> States:
        """The state of each run, written down in its directory where something follows from it."""
        jobs = slurm.queued(*self._folders())
        return {run: write_down(run.config, job=jobs.get(run.config.run_id, "")) for run in runs}

    def _round(self, launch: Launch, todo: Sequence[SweepRun]) -> bool:
        """Launches `todo`; whether this process was asked to stop."""
        try:
            launch(todo)
        except Interrupted as stop:
            print(stop, file=sys.stderr)
            return True
        except SystemExit as end:  # a run in this process was asked to stop, and has said so
            if end.code != RESUMABLE:
                raise
            return True
        return False

    def _in_order(self, todo: list[SweepRun], states: States) -> list[SweepRun]:
        seeds = list(dict.fromkeys(run.config.seed for run in self.runs))
        return sorted(todo, key=lambda run: order.place(run.config, states[run].refused, seeds))

    def _run_shared(self, launch: Launch) -> int:
        """Under torchrun every process takes the same runs in the same order; `run` skips finished
        ones."""
        first = os.environ.get("RANK", "0") == "0"
        if first:
            self._write_manifests()
        launch(self.runs)
        return self._report(self._states(self.runs)) if first else 0

    def _report(self, states: States, idle: Sequence[SweepRun] = (), lacking: Container[SweepRun] = ()) -> int:
        if idle:
            print(f"error: {len(idle)} launched runs did not start: the lines above say why", file=sys.stderr)
        for run, state in states.items():
            if state.name == "failed" and not state.refused:  # a refusal was reported when it was met, by one run
                print(_failure(run, state), file=sys.stderr)
        refused = Counter(state.reason for run, state in states.items() if state.refused and run not in lacking)
        for reason, count in refused.items():
            if count > 1:
                print(f"error: {count} runs: {reason}", file=sys.stderr)
        if self.budget is not None:
            print("\n".join(self.budget.report({run.config.run_id: state for run, state in states.items()})))
        print(_counts(states.values()), flush=True)
        if any(state.pending for run, state in states.items() if run not in idle and run not in lacking):
            return RESUMABLE
        failed = any(state.name == "failed" for state in states.values())
        return int(bool(failed or idle or lacking or self.foreign))

    def _folders(self) -> list[Path]:
        return sorted({run.config.directory.parent for run in self.runs})

    def _write_manifests(self) -> None:
        described = manifest.launch_of(self.command, describe(torch.device("cpu")))
        for folder in self._folders():
            runs = {r.config.run_id: list(r.overrides) for r in self.runs if r.config.directory.parent == folder}
            manifest.add(folder, runs, described)


def _begun(run: SweepRun) -> int:
    """How many attempts were made at the run."""
    return attempts.load(run.config.directory).begun


def _failure(run: SweepRun, state: RunState) -> str:
    if state.retry:
        todo = "the next launch tries it again"
    elif state.result is None:  # its record cannot be read; the reason names the file and the fix
        return f"error: {state.reason}"
    else:
        todo = f"raise launch.retries to try it again: {run.config.directory}"
    return f"failed: {run.config.run_id}: {state.reason}; {todo}"


def _counts(states: Iterable[RunState]) -> str:
    names = [state.name for state in states]
    return f"{len(names)} runs: " + ", ".join(f"{count} {name}" for name, count in Counter(names).items())
