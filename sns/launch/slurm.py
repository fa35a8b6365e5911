"""A sweep as one Slurm array: what is submitted, and which runs Slurm still has.

Each launch has a folder `results/runs/<experiment>/slurm/<stamp>/` with `job.sh`, `tasks` (line N +
1: the run_id and the command of array task N), `job` (Slurm's number, once there is one) and the
output of every task. Needs sbatch, squeue and scontrol, and no accounting.
"""

import os
import secrets
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sns.common.errors import UserError, first_line
from sns.launch.pool import Task

FOLDER = "slurm"
JOB = Path(__file__).with_name("job.sh")
Ask = Callable[..., str]


@dataclass
class Options:
    """What each run asks of Slurm. Any other option of sbatch goes into `options`."""

    timeout_min: int = 240  # of one session; a run that needs longer is requeued and resumes
    array_parallelism: int = 16  # runs at a time
    gpus: int = 1
    cpus: int = 4
    mem_gb: float = 16.0
    partition: str | None = None
    account: str | None = None
    constraint: str | None = None
    qos: str | None = None
    signal_delay_s: int = 120  # how long before the time limit Slurm signals a run to save
    options: dict[str, str | None] = field(default_factory=dict)  # such as {exclude: node7, exclusive: null}
    setup: list[str] = field(default_factory=list)  # shell lines before each run, such as module load cuda
    wait: bool = True  # False: submit and return

    def __post_init__(self) -> None:
        for name in ("timeout_min", "array_parallelism", "cpus", "mem_gb", "signal_delay_s"):
            if getattr(self, name) <= 0:
                raise UserError(f"hydra.launcher.{name}={getattr(self, name)} must be positive")
        if self.timeout_min < 3:
            raise UserError(
                f"hydra.launcher.timeout_min={self.timeout_min} must be at least 3: Slurm's warning comes up to a "
                "minute early"
            )
        if self.gpus < 0:
            raise UserError(f"hydra.launcher.gpus={self.gpus} must not be negative")

    @property
    def delay(self) -> int:
        """Seconds between the warning and the end: never more than a quarter of the time limit."""
        return min(self.signal_delay_s, self.timeout_min * 15)


def arguments(options: Options, count: int, folder: Path) -> list[str]:
    """sbatch's arguments for an array of `count` tasks."""
    chosen: dict[str, str | None] = {
        "job-name": f"sns-{folder.parent.parent.name}",
        "array": f"0-{count - 1}%{options.array_parallelism}",
        "output": str(folder / "%a.log"),
        "open-mode": "append",  # a requeued task appends to the same file
        "requeue": None,
        "signal": f"B:USR2@{options.delay}",  # to the shell of the job, whose trap is set in its first line
        "time": str(options.timeout_min),
        "nodes": "1",
        "ntasks": "1",
        "cpus-per-task": str(options.cpus),
        "mem": f"{round(options.mem_gb * 1024)}M",
        "gres": f"gpu:{options.gpus}" if options.gpus else "",
        "partition": options.partition or "",
        "account": options.account or "",
        "constraint": options.constraint or "",
        "qos": options.qos or "",
    }
    chosen |= options.options
    return [f"--{key}" if value is None else f"--{key}={value}" for key, value in chosen.items() if value != ""]


def submit(folder: Path, make: Callable[[Path], Sequence[Task]], options: Options) -> str:
    """Submits tasks as one array and returns the job's number. `folder` is the experiment's;
    `make` gives the tasks, whose files stand in the folder of the launch. UserError with sbatch's
    own message where it refuses.
    """
    place = folder / FOLDER / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    try:
        place.mkdir(parents=True)
        tasks = make(place)
        (place / "tasks").write_text("".join(f"{task.name} {shlex.join(task.command)}\n" for task in tasks))
        (place / "job.sh").write_text(_script(place, options))
    except OSError as error:
        raise UserError(f"{place} cannot be written ({first_line(error)}): make room or set results=...") from None
    site = ("SLURM_CONF", "SLURM_CLUSTERS")  # the other variables describe the job that this process may be in
    environment = {key: value for key, value in os.environ.items() if key in site or not key.startswith("SLURM_")}
    command = ["sbatch", "--parsable", *arguments(options, len(tasks), place.resolve()), str(place / "job.sh")]
    try:
        answer = _ask(*command, environment=environment)
    except UserError:
        shutil.rmtree(place)
        raise
    job = answer.strip().split(";")[0]
    (place / "job").write_text(job)
    return job


def _script(place: Path, options: Options) -> str:
    """job.sh with its three settings and the user's own lines filled in."""
    head, mark, rest = JOB.read_text().partition("# settings\n")
    assert mark
    lines = [
        f"tasks={shlex.quote(str((place / 'tasks').resolve()))}",
        f"patience={max(5, options.delay - 20)}",
        f"cd {shlex.quote(str(Path.cwd()))} || exit 1",
        *options.setup,
    ]
    return head + "\n".join(lines) + "\n" + rest


def _ask(*command: str, environment: Mapping[str, str] | None = None) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    except FileNotFoundError:
        raise UserError(
            f"{command[0]} is not installed here: hydra/launcher=slurm is for a machine that submits to Slurm; "
            "use hydra/launcher=local"
        ) from None
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise UserError(f"{command[0]} refuses: {lines[-1] if lines else f'code {done.returncode}'}")
    return done.stdout


def active(ask: Ask = _ask) -> set[str] | None:
    """This user's array tasks and jobs in Slurm's queue, such as {"12_3"}; None where Slurm does
    not answer now."""
    try:
        return set(ask("squeue", "-h", "-r", "-u", str(os.getuid()), "-o", "%i").split())
    except UserError:
        return None


def queued(*folders: Path, ask: Ask = _ask) -> dict[str, str]:
    """The runs of the experiments in `folders` that Slurm still has, waiting or running: run_id to
    task `<job>_<index>`."""
    launches = sorted(file for folder in folders for file in (folder / FOLDER).glob("*/job"))
    now = active(ask) if launches else None
    tasks: dict[str, str] = {}
    for file in launches if now else ():
        job = file.read_text().strip()
        for index, line in enumerate((file.parent / "tasks").read_text().splitlines()):
            if now and f"{job}_{index}" in now:
                tasks[line.split(" ", 1)[0]] = f"{job}_{index}"
    return tasks


def wait(job: str, pause: float = 5.0) -> None:
    """Returns once Slurm has no task of the job left; asks again where Slurm does not answer."""
    while True:
        now = active()
        if now is not None and not any(name.split("_")[0] == job for name in now):
            return
        time.sleep(pause)
