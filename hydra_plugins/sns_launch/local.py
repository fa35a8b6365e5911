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
from omegaconf import DictConfig, OmegaConf


class RunLauncher(Launcher):
    """What the launchers of this project share: SnsSweeper gives them the composed `runs`.

    Under another sweeper, such as Optuna's, they compose its jobs and return the scores.
    """

    runs: Sequence[Any] = ()

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keeps what composing the jobs of another sweeper needs."""
        self.loader, self.hydra_config = hydra_context.config_loader, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Trains `runs`, which `job_overrides` repeat, or under another sweeper its jobs."""
        if self.runs:
            self.train()
            return [JobReturn(overrides=list(job), status=JobStatus.COMPLETED) for job in job_overrides]
        try:
            return self._launch_for_guest(job_overrides)
        finally:
            self.runs = ()

    def _launch_for_guest(self, job_overrides: Sequence[Sequence[str]]) -> list[JobReturn]:
        from sns.launch import guest
        from sns.launch.handover import composed
        from sns.launch.run_sweep import Sweep
        from sns.train.stop import RESUMABLE, Interrupted

        jobs = []
        for words in job_overrides:
            tree = self.loader.load_sweep_config(self.hydra_config, list(words))
            plain = OmegaConf.masked_copy(tree, [str(key) for key in tree if key != "hydra"])
            jobs.append(composed(plain, words, tree.hydra))
            guest.check_direction(tree.hydra.sweeper, jobs[-1].config)

        def train(runs: Sequence[Any]) -> None:
            self.runs = runs
            self.train()

        if Sweep(jobs, sys.argv).run(train) == RESUMABLE:
            raise Interrupted("stopped; the same command resumes it")
        return [guest.job_return(job) for job in jobs]

    @abstractmethod
    def train(self) -> None:
        """Trains `runs` to their end; Interrupted when asked to stop."""


class LocalLauncher(RunLauncher):
    """One process for each visible GPU (launch.per_gpu: several), or launch.processes on CPUs."""

    budget: Any = None  # the TimeBudget, if launch.budget sets one

    def train(self) -> None:
        """Trains every run to its end or to its error; Interrupted when asked to stop."""
        from sns.common import accelerator
        from sns.launch import handover, pool

        first = self.runs[0].config
        found = 0 if first.train.device == "cpu" else accelerator.visible("cuda")
        gpus = pool.visible_gpus(os.environ, found)
        cores = len(os.sched_getaffinity(0))
        slots = pool.slots_for(first.train.device, first.train.threads, first.launch, gpus, cores, len(self.runs))
        os.environ["SNS_LAUNCHER"] = "local"
        budget = self.budget
        admits = (lambda name: True) if budget is None else (lambda name: bool(budget.admits(name, own_process=True)))
        queue = pool.Pool(slots, first.launch.retries, lambda line: print(line, flush=True), admits)
        with handover.folder(self.runs) as place:
            queue.run(tasks(self.runs, place))


def tasks(runs: Sequence[Any], place: Path) -> list[Any]:
    """A process for each run, which reads its configuration from a file in `place`; it prints lines
    in place of progress bars, since many runs share the terminal."""
    from sns.launch import handover
    from sns.launch.pool import Task

    return [Task(run.config.run_id, handover.command(handover.write(place, run, progress="lines"))) for run in runs]
