"""hydra/launcher=slurm: the runs of a sweep as one Slurm array."""

from typing import Any

from omegaconf import OmegaConf

from hydra_plugins.sns_launch.local import RunLauncher, tasks


class SlurmLauncher(RunLauncher):
    """Submits every run as a task of one array. Unless wait=false, returns when Slurm has none of
    them left."""

    def __init__(self, **options: Any) -> None:
        self.options = OmegaConf.create(options)

    def train(self) -> None:
        """Submits the array; Interrupted where it does not wait for its end."""
        from sns.config.compose import checked
        from sns.launch import slurm
        from sns.train.stop import Interrupted

        first = self.runs[0].config
        options: slurm.Options = checked("hydra.launcher", slurm.Options, OmegaConf.to_container(self.options))
        options.gpus = max(options.gpus, first.launch.gpus_per_run if options.gpus else 0)
        folder = first.directory.parent
        job = slurm.submit(folder, lambda place: tasks(self.runs, place), options)
        print(
            f"Slurm array {job}: {len(self.runs)} runs, {options.array_parallelism} at a time; output: {folder}/slurm"
        )
        print(
            f"Ctrl-C leaves the jobs running; python scripts/status.py --experiment {folder.name} --watch", flush=True
        )
        try:
            if options.wait:
                slurm.wait(job)
        except KeyboardInterrupt:
            options.wait = False
        if not options.wait:
            raise Interrupted(f"Slurm has array {job}; the same command later says what came of it")
