"""hydra/launcher=slurm: the runs of a grid as one Slurm array."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.sns_launch.local import command


class SlurmLauncher(Launcher):
    """Submits every job as a task of one array and, unless wait=false, returns when Slurm has none
    of them left."""

    def __init__(self, **options: Any) -> None:
        self.options = OmegaConf.create(options)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keeps what the runs have in common."""
        self.config = config
        self.cells: Sequence[Any] = ()

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Submits the array; Interrupted where it does not wait for its end."""
        from sns.common.errors import UserError
        from sns.config.compose import checked
        from sns.launch import slurm
        from sns.launch.pool import Task
        from sns.train.stop import Interrupted

        options: slurm.Options = checked("hydra.launcher", slurm.Options, OmegaConf.to_container(self.options))
        if not self.cells:
            raise UserError("hydra/launcher=slurm needs hydra/sweeper=grid")
        options.gpus = max(options.gpus, self.cells[0].config.launch.gpus_per_run if options.gpus else 0)
        folder = Path(self.cells[0].config.directory.parent)
        tasks = [Task(cell.config.run_id, command(cell.overrides)) for cell in self.cells]
        job = slurm.submit(folder, tasks, options)
        print(f"Slurm array {job}: {len(tasks)} runs, {options.array_parallelism} at a time; output: {folder}/slurm")
        print(
            f"Ctrl-C leaves the jobs running; python scripts/status.py --experiment {folder.name} --watch", flush=True
        )
        try:
            if options.wait:
                slurm.wait(job)
        except KeyboardInterrupt:
            options.wait = False
        if not options.wait:
            raise Interrupted(f"Slurm has array {job}; the same command tells later what became of it")
        return [JobReturn(overrides=list(job), status=JobStatus.COMPLETED) for job in job_overrides]
