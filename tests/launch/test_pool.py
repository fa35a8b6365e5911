"""Runs in parallel on one machine: every slot is used, each process has its device, and no error
stops the others."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sns.common.errors import UserError
from sns.config.schema import LaunchConfig
from sns.launch.pool import Pool, Slot, Task, slots_for, visible_gpus
from sns.train.stop import Interrupted

WRITE = "import os,json,sys,time; json.dump([dict(os.environ), os.getsid(0)], open(sys.argv[1], 'w'))"


def task(name: str, code: str, *arguments: object) -> Task:
    return Task(name, (sys.executable, "-c", code, *map(str, arguments)))


def gpus(slots: list[Slot]) -> list[str]:
    return [dict(slot.environment)["CUDA_VISIBLE_DEVICES"] for slot in slots]


def test_visible_gpus_are_those_the_environment_leaves() -> None:
    assert visible_gpus({}, 3) == ["0", "1", "2"]
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "5,GPU-abc"}, 2) == ["5", "GPU-abc"]
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": ""}, 0) == []


def test_one_slot_a_gpu_or_as_many_as_asked_spread_before_they_are_stacked() -> None:
    two = slots_for("auto", None, LaunchConfig(per_gpu=2), ["0", "3"], cores=8, runs=99)
    assert gpus(two) == ["0", "3", "0", "3"]
    assert gpus(slots_for("auto", None, LaunchConfig(per_gpu=2), ["0", "3"], cores=8, runs=3)) == ["0", "3", "0"]
    assert dict(two[0].environment)["OMP_NUM_THREADS"] == "2"


def test_a_run_over_several_gpus_gets_them_together() -> None:
    pairs = slots_for("auto", None, LaunchConfig(gpus_per_run=2), ["0", "3", "5"], cores=8, runs=99)
    assert gpus(pairs) == ["0,3"]
    with pytest.raises(UserError, match="more GPUs than the 1"):
        slots_for("auto", None, LaunchConfig(gpus_per_run=2), ["0"], cores=8, runs=1)


def test_cpus_divide_the_cores() -> None:
    def threads(launch: LaunchConfig, count: int | None = None, runs: int = 99) -> tuple[int, str]:
        slots = slots_for("cpu", count, launch, ["0"], cores=8, runs=runs)
        assert set(gpus(slots)) == {""}
        return len(slots), dict(slots[0].environment)["OMP_NUM_THREADS"]

    assert threads(LaunchConfig()) == (8, "1")
    assert threads(LaunchConfig(processes=2)) == (2, "4")
    assert threads(LaunchConfig(), count=4) == (2, "4")
    assert threads(LaunchConfig(), runs=2) == (2, "4")


@pytest.mark.parametrize(("device", "says"), [("cuda:1", "leave it at auto"), ("cuda", "none is visible")])
def test_devices_that_cannot_be_shared_out_are_refused(device: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        slots_for(device, None, LaunchConfig(), [], cores=8, runs=2)


def test_every_process_has_its_own_device_and_no_error_stops_the_others(tmp_path: Path) -> None:
    slots = slots_for("auto", None, LaunchConfig(), ["4", "7"], cores=2, runs=5)
    tasks = [task(f"good {index}", WRITE, tmp_path / f"{index}.json") for index in range(3)]
    tasks.insert(0, task("bad", "import sys; sys.exit(3)"))
    tasks.insert(1, task("dead", "import os; os.kill(os.getpid(), 9)"))
    lines: list[str] = []
    codes = Pool(slots, retries=1, say=lines.append).run(tasks)
    assert codes == {"bad": 3, "dead": -9, "good 0": 0, "good 1": 0, "good 2": 0}
    assert sum(line.startswith("dead: killed by SIGKILL") for line in lines) == 2  # once again, then given up
    seen = [json.loads((tmp_path / f"{index}.json").read_text()) for index in range(3)]
    assert {environment["CUDA_VISIBLE_DEVICES"] for environment, _ in seen} <= {"4", "7"}
    assert all(session != os.getsid(0) for _, session in seen)  # Ctrl-C of the terminal does not reach them


def test_no_more_processes_at_a_time_than_slots(tmp_path: Path) -> None:
    code = (
        "import os,sys,time; p=sys.argv[1]; open(p+'/'+str(os.getpid()),'w'); time.sleep(.3);"
        "open(p+'/most','a').write(f'{len(os.listdir(p))} '); os.remove(p+'/'+str(os.getpid()))"
    )
    (tmp_path / "most").touch()
    slots = slots_for("cpu", None, LaunchConfig(processes=2), [], cores=2, runs=6)
    Pool(slots, retries=0).run([task(str(index), code, tmp_path) for index in range(6)])
    assert max(map(int, (tmp_path / "most").read_text().split())) == 3  # two, and the file itself


PARENT = """
import signal, sys
for name in ("SIGINT", "SIGHUP"):  # ignored where these tests run in the background
    signal.signal(getattr(signal, name), signal.SIG_DFL)
from sns.config.schema import LaunchConfig
from sns.launch.pool import Pool, Task, slots_for
from sns.train.stop import RESUMABLE, Interrupted
child = '''
import signal, sys, time
def save(number, frame):
    time.sleep(.3); open(sys.argv[1], "w").write("saved"); sys.exit(75)
signal.signal(signal.SIGTERM, save)
open(sys.argv[1], "w").write("up")
time.sleep(60)
'''
tasks = [Task(n, (sys.executable, "-c", child, f"{sys.argv[1]}/{n}")) for n in "abc"]
try:
    Pool(slots_for("cpu", None, LaunchConfig(processes=2), [], 2, 3), 2).run(tasks)
except Interrupted as stop:
    print(stop, flush=True)
    sys.exit(RESUMABLE)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_passed_on_and_waited_for(tmp_path: Path, number: signal.Signals) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    while not all((tmp_path / name).is_file() and (tmp_path / name).read_text() == "up" for name in "ab"):
        time.sleep(0.05)
        assert parent.poll() is None
    parent.send_signal(number)
    output = parent.communicate(timeout=30)[0]
    assert parent.returncode == 75
    assert [(tmp_path / name).read_text() for name in "ab"] == ["saved", "saved"]
    assert not (tmp_path / "c").exists()  # nothing new was started
    assert f"{number.name}: every run was asked to save" in output


def test_interrupted_is_raised_in_process_too(tmp_path: Path) -> None:
    tells = task("tells", f"import os, time; os.kill({os.getpid()}, 15); time.sleep(60)")
    with pytest.raises(Interrupted, match="SIGTERM"):
        Pool([Slot("one", ())], retries=3).run([tells, task("never", WRITE, tmp_path / "never")])
    assert not (tmp_path / "never").exists()
