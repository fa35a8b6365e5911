"""The sweeper behind every `train.py -m`: the grid of Hydra's basic sweeper, launched by
sns.launch.grid."""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from sns.common.errors import UserError, first_line


class GridSweeper(BasicSweeper):
    """Composes and checks every cell first, then launches those that are neither over nor under
    way.

    Ends the process with the exit code of sns.launch.grid.Grid.run.
    """

    def sweep(self, arguments: list[str]) -> Any:
        """One grid, from the overrides of the command line and of the experiment's
        hydra.sweeper.params."""
        from sns.launch.grid import Grid  # imports torch: not at Hydra's scan for plugins

        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        (jobs,) = self.split_arguments(overrides, None)
        cells, faults = self._compose(jobs)
        try:
            self.box = self._make_box(cells)
            code = Grid(cells, sys.argv, self.box).run(self._launch)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)
        sys.exit(code or int(faults > 0))

    def _compose(self, jobs: Sequence[Sequence[str]]) -> tuple[list[Any], int]:
        """The cells, and how many could not be composed, each told in a line. Cells that differ in
        the seed alone are composed once, since composing costs most.
        """
        from sns.launch.grid import Cell
        from sns.train.run import configure

        assert self.hydra_context is not None
        assert self.config is not None
        loader = self.hydra_context.config_loader
        cells: list[Cell] = []
        known: dict[tuple[str, ...], Any] = {}
        faults = 0
        for job in jobs:
            key = tuple(text for text in job if not text.startswith("seed="))
            seed = next((text.removeprefix("seed=") for text in job if text.startswith("seed=")), "")
            try:
                if key in known and seed.isdigit():
                    config = replace(known[key], seed=int(seed))
                else:
                    tree = loader.load_sweep_config(self.config, list(job))
                    config = configure({name: tree[name] for name in tree if name != "hydra"})
                    known[key] = config
            except (UserError, HydraException) as error:
                print(f"error: {first_line(error)} [{' '.join(job)}]", file=sys.stderr)
                faults += 1
                continue
            cells.append(Cell(tuple(job), config))
        return cells, faults

    def _make_box(self, cells: Sequence[Any]) -> Any:
        from sns.launch.budget import Box

        if not cells or cells[0].config.launch.budget is None:
            return None
        here = isinstance(self.launcher, BasicLauncher) or hasattr(self.launcher, "box")
        if not here or int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise UserError(
                "launch.budget is for runs that this command trains itself (hydra/launcher=basic or local): on Slurm "
                "set hydra.launcher.timeout_min, under torchrun train.time_limit_minutes"
            )
        box = Box([cell.config for cell in cells], cells[0].config.launch)
        if hasattr(self.launcher, "box"):
            self.launcher.box = box  # type: ignore[union-attr]
        return box

    def _launch(self, cells: Sequence[Any]) -> None:
        from sns.train.stop import Interrupted

        assert self.launcher is not None
        self.launcher.cells = cells  # type: ignore[attr-defined]  # ours read the run_ids
        box = self.box if isinstance(self.launcher, BasicLauncher) else None  # which asks nobody between two runs
        parts = [cells] if box is None else [[cell] for cell in cells]
        try:
            for index, part in enumerate(parts):
                if box is None or box.admits(part[0].config.run_id, own_process=False):
                    self.launcher.launch([list(cell.overrides) for cell in part], initial_job_idx=index)
        except (UserError, Interrupted):
            raise
        except Exception as error:  # a launcher that gives up at one job's fault: the records say what was done
            print(f"warning: the launcher reports {first_line(error)}", file=sys.stderr)
