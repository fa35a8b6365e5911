"""A grid as one Slurm array: what is submitted, and what of it is still in Slurm's queue.

Each launch keeps a folder `results/runs/<grid>/slurm/<stamp>/`: `job.sh`, `tasks` (line N + 1: the
run_id and the command of array task N), `job` (Slurm's number, once known) and the output of every
task. Needs sbatch, squeue and scontrol, and no accounting.
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
    """What each run asks of Slurm. Anything else that sbatch knows goes into `options`."""

    timeout_min: int = 240  # of one session; a run that needs longer is requeued and goes on
    array_parallelism: int = 16  # runs at a time
    gpus: int = 1
    cpus: int = 4
    mem_gb: float = 16.0
    partition: str | None = None
    account: str | None = None
    constraint: str | None = None
    qos: str | None = None
    signal_delay_s: int = 120  # how long before the time limit a run is told to save
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
        "open-mode": "append",  # a requeued task goes on in the same file
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


def submit(folder: Path, tasks: Sequence[Task], options: Options) -> str:
    """Submits the tasks as one array and returns the job's number. `folder` is the grid's.
    UserError with sbatch's own words where it refuses.
    """
    place = folder / FOLDER / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    try:
        place.mkdir(parents=True)
        (place / "tasks").write_text("".join(f"{task.name} {shlex.join(task.command)}\n" for task in tasks))
        (place / "job.sh").write_text(_script(place, options))
    except OSError as error:
        raise UserError(f"{place} cannot be written ({first_line(error)}): make room or set results=...") from None
    kept = ("SLURM_CONF", "SLURM_CLUSTERS")  # the rest describes the job that we may be in ourselves
    environment = {key: value for key, value in os.environ.items() if key in kept or not key.startswith("SLURM_")}
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
            f"{command[0]} is not here: hydra/launcher=slurm is for a machine that submits to Slurm; "
            "use hydra/launcher=local"
        ) from None
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise UserError(f"{command[0]} refuses: {said[-1] if said else f'code {done.returncode}'}")
    return done.stdout


def active(ask: Ask = _ask) -> set[str] | None:
    """This user's array tasks and jobs in Slurm's queue, such as {"12_3"}; None where Slurm does
    not answer now."""
    try:
        return set(ask("squeue", "-h", "-r", "-u", str(os.getuid()), "-o", "%i").split())
    except UserError:
        return None


def queued(folder: Path, ask: Ask = _ask) -> dict[str, str]:
    """The runs of the grid in `folder` that Slurm still has, waiting or running, each with its task
    `<job>_<index>`."""
    launches = sorted((folder / FOLDER).glob("*/job"))
    now = active(ask) if launches else None
    found: dict[str, str] = {}
    for file in launches if now else ():
        job = file.read_text().strip()
        for index, line in enumerate((file.parent / "tasks").read_text().splitlines()):
            if now and f"{job}_{index}" in now:
                found[line.split(" ", 1)[0]] = f"{job}_{index}"
    return found


def wait(job: str, pause: float = 5.0) -> None:
    """Returns once Slurm has no task of the job any more. A Slurm that does not answer is asked
    again."""
    while True:
        now = active()
        if now is not None and not any(name.split("_")[0] == job for name in now):
            return
        time.sleep(pause)
