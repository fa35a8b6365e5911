"""hydra/sweeper=sns, behind every `train.py -m`: expands a sweep and launches its runs."""

import os
import pickle
import sys
from collections.abc import Sequence
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict

from sns.common.errors import UserError, first_line


class SnsSweeper(BasicSweeper):
    """Composes and checks every run first, then launches those that are to do.

    Ends the process with the exit code of sns.launch.run_sweep.Sweep.run, and with 1 where some
    combinations of values were not valid.
    """

    def sweep(self, arguments: list[str]) -> Any:
        """One sweep; `arguments`, the command line, stand in the configuration too."""
        from sns.launch import place
        from sns.launch.run_sweep import Sweep  # imports torch: not when Hydra searches for plugins
        from sns.launch.sweep import expand

        assert self.hydra_context is not None
        assert self.config is not None
        loader = self.hydra_context.config_loader
        assert isinstance(loader, ConfigLoaderImpl)
        try:
            runs, errors = expand(loader, self.config)
            for error in errors:
                print(f"error: {error}", file=sys.stderr)
            for config in {run.config.directory.parent: run.config for run in runs}.values():
                place.check(config)
            self.budget = self._time_budget(runs)
            code = Sweep(runs, sys.argv, self.budget, self._here()).run(self._launch) if runs else 0
        except UserError as fault:
            print(f"error: {fault}", file=sys.stderr)
            sys.exit(1)
        sys.exit(code or int(bool(errors)))

    def _here(self) -> bool:
        """Whether the launcher trains on this machine."""
        return isinstance(self.launcher, BasicLauncher) or hasattr(self.launcher, "budget")

    def _time_budget(self, runs: Sequence[Any]) -> Any:
        from sns.launch.budget import TimeBudget

        if not runs or runs[0].config.launch.budget is None:
            return None
        if not self._here() or int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise UserError(
                "launch.budget is for runs that this command trains itself (hydra/launcher=basic or local): on Slurm "
                "set hydra.launcher.timeout_min, under torchrun train.time_limit_minutes"
            )
        return TimeBudget([run.config for run in runs], runs[0].config.launch)

    def _launch(self, runs: Sequence[Any]) -> None:
        from sns.launch import handover, together
        from sns.train.stop import Interrupted

        launcher: Any = self.launcher
        if (count := runs[0].config.launch.per_process) > 1:
            if not isinstance(launcher, BasicLauncher):
                raise UserError(
                    f"launch.per_process={count} is for runs that this command trains itself: leave out "
                    "hydra/launcher, or launch.per_process"
                )
            together.train(runs, self.budget)
            return
        launcher.runs = runs  # for the launchers of this project
        launcher.budget = self.budget
        # Hydra's own launcher does not ask between two runs whether the next one may start.
        one_by_one = self.budget is not None and isinstance(launcher, BasicLauncher)
        if isinstance(launcher, BasicLauncher) and self.hydra_context is not None:
            once: Any = ComposedOnce(self.hydra_context.config_loader)
            launcher.hydra_context = HydraContext(once, self.hydra_context.callbacks)
        try:
            with handover.folder(runs) as folder:
                for index, part in enumerate([[run] for run in runs] if one_by_one else [runs]):
                    if not one_by_one or self.budget.admits(part[0].config.run_id, own_process=False):
                        launcher.launch([[handover.write(folder, run)] for run in part], initial_job_idx=index)
        except (UserError, Interrupted):
            raise
        except Exception as error:  # of a launcher that stops at one job's error: the records say what was done
            print(f"warning: the launcher reports {first_line(error)}", file=sys.stderr)


class ComposedOnce:
    """Stands in for Hydra's loader in Hydra's own launcher: composes the tree of the first run.

    Those of the others differ in their one override, launch.run, alone. Composing each anew takes
    as long as a few dozen updates of a small network.
    """

    def __init__(self, loader: Any) -> None:
        self.loader, self.tree, self.parser = loader, b"", OverridesParser.create()

    def load_sweep_config(self, master: DictConfig, words: list[str]) -> DictConfig:
        """The tree of a run whose overrides are `words`."""
        if not self.tree:
            self.tree = pickle.dumps(self.loader.load_sweep_config(master, words))
        tree: DictConfig = pickle.loads(self.tree)
        overrides, here = self.parser.parse_overrides(words), tree.hydra
        ConfigLoaderImpl._apply_overrides_to_config(overrides, tree)
        with open_dict(tree):
            here.overrides.task = list(words)
            here.job.override_dirname = get_overrides_dirname(overrides, **here.job.config.override_dirname)
        return tree
