"""A grid of runs: which are over, which are under way, which are to be launched, and what became of
them.

A run is judged by its own directory alone, never by what a launcher or a scheduler says of it.
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sns.common.errors import RecordError, UserError, first_line
from sns.common.files import write_text
from sns.config.schema import Config
from sns.launch import manifest, order, slurm
from sns.launch.attempt import give_up
from sns.launch.budget import Box
from sns.record import attempts, store
from sns.record.environment import describe
from sns.train.stop import RESUMABLE, Interrupted

OVER = ("done", "diverged")
BAD = ("failed", "refused", "damaged")
Launch = Callable[[Sequence["Cell"]], None]


@dataclass(frozen=True, eq=False)
class Cell:
    """One run of a grid and the command-line overrides that make it."""

    overrides: tuple[str, ...]
    config: Config


def state_of(cell: Cell) -> tuple[str, str | None]:
    """How the run stands: done | diverged | failed | damaged | running | refused | stopped | to do;
    and why.

    Writes down what it finds: a dead process as a failure, and a run whose retries are spent as
    failed.
    """
    config, directory = cell.config, cell.config.directory
    state = attempts.settle(directory)
    if attempts.alive(directory, state):
        return "running", None
    if store.is_finished(directory):
        try:
            result = store.read(directory).result
        except RecordError as error:
            return "damaged", str(error)
        if result.status == "failed" and state.failures <= config.launch.retries:
            return "to do", result.reason  # launch.retries was raised: `attempt` takes the record back
        return ("done" if result.status == "ok" else result.status), result.reason
    if state.state in ("failed", "died") and state.failures > config.launch.retries:
        return "failed", give_up(config).reason
    if state.state in ("stopped", "refused"):
        return state.state, state.reason
    return "to do", state.reason


class Grid:
    """The cells of one sweep, launched until nothing is left that another attempt could mend."""

    def __init__(self, cells: Sequence[Cell], command: Sequence[str], box: Box | None = None) -> None:
        """`box`: the time that all of it has, if it is limited."""
        unique = {cell.config.run_id: cell for cell in cells}
        self.cells, self.command, self.box = list(unique.values()), command, box

    def run(self, launch: Launch) -> int:
        """Launches what is to do, round after round; 0 if all runs are over, 75 if a later call can
        go on, 1 if one failed.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            return self._run_shared(launch)
        states = {cell: state_of(cell) for cell in self.cells}
        queued = self._queued()
        todo = [cell for cell, (state, _) in states.items() if state not in (*OVER, "failed", "damaged", "running")]
        todo = self._in_order([cell for cell in todo if cell.config.run_id not in queued], states)
        self._write_manifests()
        print(_counts([*_names(states), *["queued"] * len(queued)]) + f"; launching {len(todo)}", flush=True)
        asked_to_stop = False
        while todo and not asked_to_stop:
            begun = {cell: attempts.load(cell.config.directory).begun for cell in todo}
            try:
                launch(todo)
            except Interrupted as stop:
                print(stop, file=sys.stderr)
                asked_to_stop = True
            except SystemExit as end:  # of a run in this process that was asked to stop, and has said so
                if end.code != RESUMABLE:
                    raise
                asked_to_stop = True
            after = {cell: state_of(cell) for cell in todo}
            states |= after
            todo = [c for c in todo if after[c][0] == "to do" and attempts.load(c.config.directory).begun > begun[c]]
            asked_to_stop |= any(state == "stopped" for state, _ in after.values())
        return self._report(states)

    def _in_order(self, todo: list[Cell], states: dict[Cell, tuple[str, str | None]]) -> list[Cell]:
        seeds = list(dict.fromkeys(cell.config.seed for cell in self.cells))
        return sorted(todo, key=lambda cell: order.place(cell.config, states[cell][0] == "refused", seeds))

    def _run_shared(self, launch: Launch) -> int:
        """Under torchrun every process goes through the same runs in the same order; `run` skips
        what is over."""
        first = os.environ.get("RANK", "0") == "0"
        if first:
            self._write_manifests()
        launch(self.cells)
        return self._report({cell: state_of(cell) for cell in self.cells}) if first else 0

    def _report(self, states: dict[Cell, tuple[str, str | None]]) -> int:
        for cell, (state, reason) in states.items():
            if state == "failed":
                again = f"raise launch.retries or delete {cell.config.directory / store.RESULT} to try it again"
                print(f"failed: {cell.config.run_id}: {reason}; {again}", file=sys.stderr)
            if state == "damaged":
                print(f"error: {reason}", file=sys.stderr)
        names = _names(states)
        if self.box is not None:
            by_id = {cell.config.run_id: state for cell, (state, _) in states.items()}
            print("\n".join(self.box.report(by_id, OVER, BAD)))
        print(_counts(names), flush=True)
        if set(names) - {*OVER, *BAD}:
            return RESUMABLE
        return 1 if set(names) & set(BAD) else 0

    def _folders(self) -> list[Path]:
        return sorted({cell.config.directory.parent for cell in self.cells})

    def _queued(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for folder in self._folders():
            found |= slurm.queued(folder)
        return {run_id: job for run_id, job in found.items() if run_id in {c.config.run_id for c in self.cells}}

    def _write_manifests(self) -> None:
        described = manifest.launch_of(self.command, describe(torch.device("cpu")))
        for folder in self._folders():
            runs = {c.config.run_id: list(c.overrides) for c in self.cells if c.config.directory.parent == folder}
            write_manifest(folder, runs, described)


def write_manifest(folder: Path, runs: dict[str, list[str]], launch: dict[str, Any]) -> None:
    """Adds `runs` to the manifest of the grid in `folder`, atomically; UserError where it cannot be
    written."""
    before = manifest.read(folder)
    after = manifest.merge(before, runs, launch)
    if after == before:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / manifest.FILE, json.dumps(after, indent=1) + "\n")
    except OSError as error:
        raise UserError(
            f"{folder / manifest.FILE} cannot be written ({first_line(error)}): "
            "make room or name another folder by results=..."
        ) from None


def _names(states: dict[Cell, tuple[str, str | None]]) -> list[str]:
    return [state for state, _ in states.values()]


def _counts(names: Sequence[str]) -> str:
    return f"{len(names)} runs: " + ", ".join(f"{count} {name}" for name, count in Counter(names).items())
