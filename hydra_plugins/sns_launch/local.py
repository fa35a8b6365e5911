"""hydra/launcher=local: the runs of a sweep in parallel on this machine, each in a new process."""

import os
import sys
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class RunLauncher(Launcher):
    """What the launchers of this project share: SnsSweeper gives them the composed `runs`."""

    runs: Sequence[Any] = ()

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Takes nothing from Hydra: each run brings its own configuration."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Trains `runs`, which `job_overrides` repeat; UserError under another sweeper."""
        from sns.common.errors import UserError

        if len(self.runs) != len(job_overrides):
            raise UserError("hydra/launcher=local and slurm need hydra/sweeper=sns")
        self.train()
        return [JobReturn(overrides=list(job), status=JobStatus.COMPLETED) for job in job_overrides]

    @abstractmethod
    def train(self) -> None:
        """Trains `runs` to their end; Interrupted when asked to stop."""


class LocalLauncher(RunLauncher):
    """One process for each visible GPU (launch.per_gpu: several), or launch.processes on CPUs."""

    budget: Any = None  # the TimeBudget, if launch.budget sets one

    def train(self) -> None:
        """Trains every run to its end or to its error; Interrupted when asked to stop."""
        from sns.common import accelerator
        from sns.launch import pool

        first = self.runs[0].config
        found = 0 if first.train.device == "cpu" else accelerator.visible("cuda")
        gpus = pool.visible_gpus(os.environ, found)
        cores = len(os.sched_getaffinity(0))
        slots = pool.slots_for(first.train.device, first.train.threads, first.launch, gpus, cores, len(self.runs))
        tasks = [pool.Task(run.config.run_id, command(run.overrides)) for run in self.runs]
        os.environ["SNS_LAUNCHER"] = "local"
        budget = self.budget
        admits = (lambda name: True) if budget is None else (lambda name: bool(budget.admits(name, own_process=True)))
        pool.Pool(slots, first.launch.retries, lambda line: print(line, flush=True), admits).run(tasks)


def command(overrides: Sequence[str]) -> tuple[str, ...]:
    """One run of the present script in a process of its own, with lines in place of progress bars,
    since many runs share the terminal."""
    quiet = [] if any(text.startswith("train.progress=") for text in overrides) else ["train.progress=lines"]
    return (sys.executable, str(Path(sys.argv[0]).resolve()), *overrides, *quiet)
