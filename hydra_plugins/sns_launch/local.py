"""hydra/launcher=local: the runs of a grid side by side on this machine, a fresh process for
each."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class LocalLauncher(Launcher):
    """One process for each visible GPU (launch.per_gpu: several), or launch.processes on CPUs."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keeps what the runs have in common."""
        self.config = config
        self.cells: Sequence[Any] = ()
        self.box: Any = None  # of time, where launch.budget sets one

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Trains every job to its end or to its fault; Interrupted when asked to stop."""
        import torch

        from sns.config.compose import launch_section
        from sns.launch import pool

        train, launch = self.config.train, launch_section(self.config)
        gpus = [] if train.device == "cpu" else pool.visible_gpus(os.environ, torch.cuda.device_count())
        cores = len(os.sched_getaffinity(0))
        slots = pool.slots_for(str(train.device), train.threads, launch, gpus, cores, len(job_overrides))
        names = [cell.config.run_id for cell in self.cells] or [" ".join(job) for job in job_overrides]
        tasks = [pool.Task(name, command(job)) for name, job in zip(names, job_overrides, strict=True)]
        os.environ["SNS_LAUNCHER"] = "local"
        box = self.box
        admits = (lambda name: True) if box is None else (lambda name: bool(box.admits(name, own_process=True)))
        pool.Pool(slots, launch.retries, lambda line: print(line, flush=True), admits).run(tasks)
        return [JobReturn(overrides=list(job), status=JobStatus.COMPLETED) for job in job_overrides]


def command(overrides: Sequence[str]) -> tuple[str, ...]:
    """One run of the present script in a process of its own. Lines in place of bars: many runs
    share the terminal."""
    quiet = [] if any(text.startswith("train.progress=") for text in overrides) else ["train.progress=lines"]
    return (sys.executable, str(Path(sys.argv[0]).resolve()), *overrides, *quiet)
