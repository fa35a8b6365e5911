"""Runs in parallel on one machine: every slot is used, each process has its device, and no error
stops the others."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sns.common.errors import UserError
from sns.config.schema import LaunchConfig
from sns.launch.pool import Pool, Slot, Task, slots_for, visible_gpus
from sns.train.stop import Interrupted

WRITE = "import os,json,sys,time; json.dump([dict(os.environ), os.getsid(0)], open(sys.argv[1], 'w'))"


@pytest.fixture
def task(tmp_path: Path) -> Callable[..., Task]:
    """Makes a task of a script with this text."""

    def make(name: str, code: str, *arguments: object) -> Task:
        script = tmp_path / f"{name}.py"
        script.write_text(code)
        return Task(name, (sys.executable, str(script), *map(str, arguments)))

    return make


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


@pytest.mark.parametrize("gpus", [["4", "7"], []])
def test_every_process_has_its_own_device_and_no_error_stops_the_others(
    task: Callable[..., Task], tmp_path: Path, gpus: list[str]
) -> None:
    slots = slots_for("auto", 1, LaunchConfig(), gpus, cores=2, runs=5)
    tasks = [task(f"good {index}", WRITE, tmp_path / f"{index}.json") for index in range(3)]
    tasks.insert(0, task("bad", "import sys; sys.exit(3)"))
    tasks.insert(1, task("dead", "import os; os.kill(os.getpid(), 9)"))
    lines: list[str] = []
    codes = Pool(slots, retries=1, say=lines.append).run(tasks)
    assert codes == {"bad": 3, "dead": -9, "good 0": 0, "good 1": 0, "good 2": 0}
    assert sum(line.startswith("dead: killed by SIGKILL") for line in lines) == 2  # once again, then given up
    seen = [json.loads((tmp_path / f"{index}.json").read_text()) for index in range(3)]
    assert {environment["CUDA_VISIBLE_DEVICES"] for environment, _ in seen} <= set(gpus or [""])
    assert all(session != os.getsid(0) for _, session in seen)  # Ctrl-C of the terminal does not reach them


def test_a_forked_process_is_like_a_new_one(task: Callable[..., Task], tmp_path: Path) -> None:
    """Arguments, variables, threads and input, but its modules were imported before it began."""
    code = (
        "import json,os,sys; early='torch' in sys.modules; import torch;"
        "json.dump([early, __name__, sys.argv, os.environ.get('GONE'), torch.get_num_threads(), sys.stdin.read(),"
        "os.environ['OMP_NUM_THREADS']], open(sys.argv[1], 'w'))"
    )
    before = dict(os.environ)
    for share in (1, 2):
        slots = slots_for("cpu", share, LaunchConfig(processes=1), [], cores=4, runs=2)
        one = task("one", code, tmp_path / "out.json")
        assert Pool(slots, retries=0).run([one]) == {"one": 0}
        expected = [True, "__main__", list(one.command[1:]), None, share, "", str(share)]
        assert json.loads((tmp_path / "out.json").read_text()) == expected
        assert dict(os.environ) == before


@pytest.mark.parametrize("end", ["", "sys.exit(75)", "raise ValueError"])
def test_a_forked_process_does_what_is_left_for_its_end(task: Callable[..., Task], tmp_path: Path, end: str) -> None:
    """Weights & Biases, for example, is closed then."""
    one = task(
        "one", f"import atexit, pathlib, sys; atexit.register(pathlib.Path(sys.argv[1]).touch)\n{end}", tmp_path / "x"
    )
    codes = Pool(slots_for("cpu", 1, LaunchConfig(), [], cores=1, runs=1), retries=0).run([one])
    assert codes == {"one": {"": 0, "sys.exit(75)": 75}.get(end, 1)}
    assert (tmp_path / "x").exists()


def test_no_more_processes_at_a_time_than_slots(task: Callable[..., Task], tmp_path: Path) -> None:
    code = (
        "import os,sys,time; p=sys.argv[1]; open(p+'/'+str(os.getpid()),'w'); time.sleep(.3);"
        "open(p+'/most','a').write(f'{len(os.listdir(p))} '); os.remove(p+'/'+str(os.getpid()))"
    )
    place = tmp_path / "place"
    place.mkdir()
    (place / "most").touch()
    slots = slots_for("cpu", None, LaunchConfig(processes=2), [], cores=2, runs=6)
    Pool(slots, retries=0).run([task(str(index), code, place) for index in range(6)])
    assert max(map(int, (place / "most").read_text().split())) == 3  # two, and the file itself


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
script = f"{sys.argv[1]}/child.py"
open(script, "w").write(child)
tasks = [Task(n, (sys.executable, script, f"{sys.argv[1]}/{n}")) for n in "abc"]
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


def test_interrupted_is_raised_in_process_too(task: Callable[..., Task], tmp_path: Path) -> None:
    tells = task("tells", f"import os, time; os.kill({os.getpid()}, 15); time.sleep(60)")
    with pytest.raises(Interrupted, match="SIGTERM"):
        Pool([Slot("one", ())], retries=3).run([tells, task("never", WRITE, tmp_path / "never")])
    assert not (tmp_path / "never").exists()
