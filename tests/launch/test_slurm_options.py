"""What Slurm is asked for, without a Slurm: the real one is in tests/slurm."""

import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import compose_tree

from sns.common.errors import ConfigError, UserError
from sns.config.compose import checked
from sns.launch import slurm
from sns.launch.pool import Task
from sns.launch.slurm import Options, arguments

PLACE = Path("/r/runs/table1/slurm/x")


def test_every_option_reaches_sbatch() -> None:
    options = Options(
        timeout_min=30, gpus=2, partition="gpu", account="me", constraint="a100", qos="low", options={"exclusive": None}
    )
    asked = arguments(options, 7, PLACE)
    for text in (
        *("--array=0-6%16", "--time=30", "--gres=gpu:2", "--cpus-per-task=4", "--mem=16384M", "--partition=gpu"),
        *("--account=me", "--constraint=a100", "--qos=low", "--exclusive", "--requeue", "--signal=B:USR2@120"),
        "--open-mode=append",
    ):
        assert text in asked


def test_nothing_is_asked_that_was_not_set() -> None:
    asked = " ".join(arguments(Options(gpus=0), 1, PLACE))
    for word in ("gres", "partition", "account", "constraint", "qos"):
        assert word not in asked


def test_sbatch_options_replace_ours() -> None:
    asked = arguments(Options(options={"gres": "gpu:h100:1", "mem": ""}), 1, PLACE)
    assert "--gres=gpu:h100:1" in asked
    assert not [text for text in asked if text.startswith("--mem")]


def test_short_limits_leave_most_of_the_time_to_training() -> None:
    assert Options(timeout_min=4).delay == 60
    assert Options(timeout_min=240).delay == 120
    with pytest.raises(UserError, match="at least 3"):
        Options(timeout_min=1)


def test_the_config_file_names_every_option_with_its_default() -> None:
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(Path(__file__).parents[2] / "configs"), version_base="1.3"):
        tree = compose("config", overrides=["hydra/launcher=slurm"], return_hydra_config=True)
    values = {key: value for key, value in tree.hydra.launcher.items() if key != "_target_"}
    assert checked("hydra.launcher", Options, values) == Options()
    assert compose_tree().launch.retries == 2


def test_a_wrong_value_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"hydra\.launcher\.timeout_min"):
        checked("hydra.launcher", Options, {"timeout_min": "soon"})


def test_without_slurm_a_sentence_and_nothing_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(UserError, match="sbatch is not installed here"):
        slurm.submit(tmp_path, lambda place: [Task("run", ("true",))], Options())
    assert not list((tmp_path / "slurm").iterdir())


def test_submission_keeps_the_tasks_and_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    sbatch = tmp_path / "bin/sbatch"
    sbatch.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/asked\nenv > {tmp_path}/env\necho "77;cluster"\n')
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("SLURM_JOB_ID", "5")  # submitted from within a job
    monkeypatch.setenv("SLURM_CONF", "/etc/x")
    tasks = [Task("run", ("python", "a b.py", "x=[1, 2]"))]
    job = slurm.submit(tmp_path, lambda place: tasks, Options(setup=["module load cuda"]))
    assert job == "77"
    (place,) = (tmp_path / "slurm").iterdir()
    assert (place / "job").read_text() == "77"
    assert (place / "tasks").read_text() == "run python 'a b.py' 'x=[1, 2]'\n"
    assert "module load cuda\n" in (place / "job.sh").read_text()
    environment = (tmp_path / "env").read_text().splitlines()
    assert "SLURM_CONF=/etc/x" in environment
    assert not [line for line in environment if line.startswith("SLURM_JOB_ID")]


def test_what_is_queued_is_unknown_where_slurm_does_not_answer(tmp_path: Path) -> None:
    def silent(*command: str) -> str:
        raise UserError("squeue refuses: Unable to contact slurm controller")

    assert slurm.active(silent) is None
    assert slurm.active(lambda *command: "12_3\n12_4\n9\n") == {"12_3", "12_4", "9"}


STUBS = {
    "srun": 'shift; exec "$@"\n',
    "scontrol": 'echo "$@" >> $LOG\n',
    "squeue": "echo ${STATE:-RUNNING}\n",
    "sleep": 'case $1 in 60) exit 0 ;; *) exec /bin/sleep "$1" ;; esac\n',
}


@pytest.mark.parametrize(
    ("code", "state", "ends", "requeues"),
    [
        ("exit 0", "RUNNING", 0, False),
        ("exit 1", "RUNNING", 1, False),
        ("exit 75", "RUNNING", 75, True),
        ("exit 70", "RUNNING", 75, True),
        ("kill -KILL $$", "RUNNING", 75, True),
        ("kill -TERM $PPID; trap 'exit 75' USR2; /bin/sleep 9 & wait", "RUNNING", 75, True),
        ("kill -USR2 $PPID; trap 'exit 75' USR2; /bin/sleep 9 & wait", "RUNNING", 75, True),
        ("kill -TERM $PPID; trap 'exit 75' USR2; /bin/sleep 9 & wait", "COMPLETING", 75, False),  # scancel
    ],
)
def test_the_job_goes_back_into_the_queue_unless_it_is_over(
    tmp_path: Path, code: str, state: str, ends: int, requeues: bool
) -> None:
    binary = tmp_path / "bin"
    binary.mkdir()
    for name, text in STUBS.items():
        (binary / name).write_text(f"#!/bin/bash\n{text}")
        (binary / name).chmod(0o755)
    (tmp_path / "tasks").write_text(f"other false\nrun bash -c '{code}'\n".replace("'exit 75'", '"exit 75"'))
    (tmp_path / "job.sh").write_text(slurm._script(tmp_path, Options(timeout_min=4)))
    environment = {
        "PATH": f"{binary}:/usr/bin:/bin",
        "LOG": str(tmp_path / "log"),
        "STATE": state,
        "SLURM_JOB_ID": "8",
        "SLURM_ARRAY_TASK_ID": "1",
    }
    bash = shutil.which("bash")
    assert bash is not None
    done = subprocess.run([bash, str(tmp_path / "job.sh")], env=environment, timeout=20, check=False)
    assert done.returncode == ends
    assert (tmp_path / "log").exists() == requeues
