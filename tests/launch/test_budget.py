"""A sweep within time budgets: which runs come first, what may start, what is reported, and that
nothing is lost."""

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, TINY
from soak import differences

from sns.common.errors import ConfigError
from sns.config import units
from sns.config.schema import Config, LaunchConfig
from sns.launch import budget, order
from sns.launch.attempt import attempt
from sns.launch.budget import TimeBudget
from sns.launch.pool import Pool, Slot, Task
from sns.launch.run_sweep import Sweep
from sns.launch.sweep import SweepRun, dry_run
from sns.record import attempts, store
from sns.task import classification
from sns.train import result as finish_module
from sns.train import stop as signals
from sns.train.progress import PROGRESS
from sns.train.run import run
from sns.train.stop import BUDGET_END, Interrupted

Make = Callable[..., Config]
FAST = ("measure.hessian=false", "measure.spectra=false", "train.epochs=1")


@pytest.fixture(autouse=True)
def no_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test announces ends with it."""
    monkeypatch.setenv(BUDGET_END, "0")
    monkeypatch.delenv(BUDGET_END)


def expanded(*words: str) -> list[Config]:
    runs, errors = dry_run(words)
    assert not errors
    return [run.config for run in runs]


@pytest.mark.parametrize(
    ("text", "seconds"), [("540", 540), ("540s", 540), ("9m", 540), ("1.5h", 5400), (".5 m", 30), ("20 s", 20)]
)
def test_lengths_of_time(text: str, seconds: float) -> None:
    assert units.seconds(text) == seconds
    assert LaunchConfig(budget=text).budget == text


def test_a_budget_is_no_part_of_the_run_id(tiny: Make) -> None:
    assert tiny("launch.budget=540").launch.budget == "540"
    assert tiny("launch.budget=9m").run_id == tiny().run_id


@pytest.mark.parametrize("text", ["soon", "0", "0s", "-5m", "5d", "1:30", "m", "5 m s", ""])
def test_what_is_no_length_of_time_is_one_sentence(text: str) -> None:
    with pytest.raises(
        ConfigError, match=r"^launch\.budget=.* is not a length of time: write 540s, 9m or 1.5h"
    ) as caught:
        LaunchConfig(budget=text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("entry", ["", "vgg", "seting=vgg", "setting=", "setting=a,", "setting=a setting=b", "lr=1"])
def test_a_bad_priority_is_one_sentence(entry: str) -> None:
    with pytest.raises(ConfigError, match=r"^launch\.priority has .*: write words such as") as caught:
        LaunchConfig(priority=["method=decay", entry])
    assert "\n" not in str(caught.value)


def test_a_rank_is_the_first_entry_that_fits(tiny: Make) -> None:
    entries = ["method=decay,spectral batch=large", "seed=3", "method=decay", "setting=digits_vgg batch=small seed=0,1"]
    launch = "launch.priority=[" + ",".join(f"'{entry}'" for entry in entries) + "]"

    def ranked(*overrides: str) -> int:
        return order.rank(tiny(launch, *overrides))

    assert ranked("method=spectral", "batch=large", "batch.size=80", "batch.ghost=10") == 0
    assert ranked("method=decay", "seed=3") == 1
    assert ranked("method=decay") == 2
    assert ranked("method=spectral", "seed=1") == 3
    assert ranked("method=spectral", "seed=2") == 4
    assert tiny(launch).run_id == tiny().run_id


def launched(runs: list[SweepRun]) -> list[Config]:
    """The configurations that a sweep of `runs` gives its launcher, in this order."""
    seen: list[Config] = []
    Sweep(runs, []).run(lambda todo: seen.extend(run.config for run in todo))
    return seen


def test_first_seeds_come_before_second_ones_and_begun_runs_before_new_ones(
    tiny: Make,
) -> None:
    launch = "launch.priority=['method=spectral','method=vanilla,decay']"
    runs = [
        SweepRun((), tiny(launch, *FAST, f"method={method}", f"seed={seed}"))
        for method in ("vanilla", "decay", "adversarial", "spectral")
        for seed in (1, 0)  # as the user names them
    ]

    def names(configs: list[Config]) -> list[str]:
        return [f"{config.method.name} {config.seed}" for config in configs]

    assert names(launched(runs)) == [
        *("spectral 1", "vanilla 1", "decay 1", "adversarial 1"),
        *("spectral 0", "vanilla 0", "decay 0", "adversarial 0"),
    ]
    for method, seed in (("decay", 1), ("adversarial", 1), ("adversarial", 0)):
        with pytest.raises(Interrupted):
            run(tiny(*FAST, f"method={method}", f"seed={seed}", "train.stop_after=1"))
    refused = tiny(*FAST, "method=spectral", "seed=1").directory
    attempts.end(refused, attempts.begin(refused), "refused", "no such archive")
    assert names(launched(runs)) == [
        *("decay 1", "vanilla 1", "adversarial 1"),  # a begun run of a lower rank does not overtake
        *("spectral 0", "vanilla 0", "decay 0", "adversarial 0"),
        "spectral 1",  # a refused run comes last of all
    ]


def test_the_papers_grids_begin_with_the_pilots() -> None:
    configs = expanded("experiment=table1", "seed=0,1", "results=/nowhere")
    entries = configs[0].launch.priority
    ranks = [order.rank(config) for config in configs]
    assert set(ranks) == set(range(len(entries)))  # every entry is some cell's, and no cell is without
    first = sorted(configs, key=lambda config: order.place(config, False, [0, 1]))
    cells = [f"{c.setting.split('_')[0]} {c.method.name} {c.batch.size}" for c in first]
    assert cells[:7] == [
        *("vgg vanilla 64", "densenet40 decay 64", "nin decay 64", "nin vanilla 4096", "densenet22 vanilla 4096"),
        *("densenet40 decay 4096", "densenet40 spectral 4096"),
    ]
    assert [config.seed for config in first] == [0] * 32 + [1] * 32
    assert {c.split()[0] for c in cells[25:32]} == {"densenet22"}


def test_the_short_table_is_the_papers_but_for_its_length() -> None:
    long, short = (expanded(f"experiment={name}", "method=decay") for name in ("table1", "table1_short"))
    assert {config.directory.parent.name for config in short} == {"table1_short"}
    assert not {config.variant for config in long} & {config.variant for config in short}
    for a, b in zip(long, short, strict=True):
        train = dataclasses.replace(b.train, epochs=a.train.epochs)
        assert dataclasses.replace(b, train=train, experiment=a.experiment).run_id == a.run_id
        assert b.train.epochs == 96
        assert b.launch.priority == a.launch.priority
        assert all(b.train.epochs * drop % b.measure.every == 0 for drop in b.optim.drops), "a drop between evaluations"


def note(config: Config, **seen: float) -> None:
    config.directory.mkdir(parents=True, exist_ok=True)
    (config.directory / PROGRESS).write_text(json.dumps(seen))


def test_a_budget_admits_runs_that_reach_a_checkpoint_in_it(tiny: Make, clock: list[float]) -> None:
    one, sibling, other = tiny(), tiny("seed=1"), dataclasses.replace(tiny(), setting="another")
    clock[0] += 10  # imports
    limit = TimeBudget([one, sibling, other], LaunchConfig(budget="600s"))
    assert limit.end == pytest.approx(1000 + 600 - 30 - budget.EXIT * 10)

    def admitted(config: Config, left: float, own_process: bool = False) -> bool:
        clock[0] = limit.end - left
        return limit.admits(config.run_id, own_process)

    assert admitted(one, 300)  # no measurement of any run: half of the budget
    assert not admitted(one, 200)
    note(other, start=30, longest=50)
    assert admitted(one, 111)  # a measurement of another setting is better than none
    assert not admitted(one, 109)
    note(sibling, start=5, longest=20)
    assert admitted(one, 31)  # a similar run before others
    assert not admitted(one, 29)
    assert not admitted(one, 31, own_process=True)  # and the imports
    assert admitted(one, 41, own_process=True)
    note(one, start=50, longest=20)
    assert not admitted(one, 119)  # itself before similar runs
    assert admitted(one, 121)
    note(one, start=50, longest=5000)
    assert admitted(one, 300)  # no later budget will be better
    assert not admitted(one, 200)


def test_the_report_of_a_budget(tiny: Make, clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    configs = [tiny(*FAST, f"seed={seed}") for seed in range(6)]
    run(configs[0])
    note(configs[1], saved=2, total=6)
    limit = TimeBudget(configs, LaunchConfig(budget="9m"))

    def launch(runs: object) -> None:
        run(configs[1])
        note(configs[2], saved=4, total=6)
        note(configs[3], start=100, longest=1)
        clock[0] += 400
        assert not limit.admits(configs[3].run_id, own_process=False)

    assert Sweep([SweepRun((), config) for config in configs], [], limit).run(launch) == 75
    said = capsys.readouterr().out.splitlines()[-5:]
    ids = [config.run_id for config in configs]
    assert said == [
        "time budget of 9m: 400 s used (0 to start), 1 finished, 1 advanced",
        f"  finished {ids[1]}: update 2 to 6 of 6",
        f"  advanced {ids[2]}: update 0 to 4 of 6",
        f"4 left for the next budget: {ids[2]}, {ids[3]}, {ids[4]} and 1 more; "
        "too little time was left to start 1 of them",
        "6 runs: 2 done, 4 to do",
    ]


def test_the_pool_drops_tasks_that_are_not_admitted(tmp_path: Path) -> None:
    code = "import sys; open(sys.argv[1], 'w')"
    tasks = [Task(name, (sys.executable, "-c", code, str(tmp_path / name))) for name in "abcd"]
    asked: list[str] = []

    def admits(name: str) -> bool:
        asked.append(name)
        return name not in "ac"

    codes = Pool([Slot("one", ())], 2, lambda line: None, admits).run(tasks)
    assert codes == {"b": 0, "d": 0}
    assert asked == ["a", "b", "c", "d"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "d"]


def test_a_run_reads_the_moment_to_stop_from_its_environment(
    tiny: Make, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock[0] += 10
    budget.announce(LaunchConfig())
    assert BUDGET_END not in os.environ
    budget.announce(LaunchConfig(budget="100s"))
    budget.announce(LaunchConfig(budget="500s"))  # within the first one
    deadline = signals.Deadline()
    assert deadline.stop == pytest.approx(1000 + 100 - 6 - budget.EXIT * 10)
    clock[0] += 70  # of set-up, which does not come again; an evaluation does
    deadline.begin(longest=3)
    assert not deadline.near()
    clock[0] = deadline.stop - 2.9
    assert deadline.near()
    monkeypatch.setenv(BUDGET_END, str(clock[0]))
    with pytest.raises(Interrupted, match="time limit"):
        run(tiny(*FAST))


def test_no_evaluation_is_begun_that_may_not_end_in_time(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one was never timed: it may take as long as an epoch. One that nothing precedes
    begins all the same, or no budget would suffice for it."""
    expected: list[float] = []
    original = signals.Deadline.expect
    monkeypatch.setattr(signals.Deadline, "expect", lambda self, s: (expected.append(s), original(self, s))[1])
    run(tiny(*FAST))
    assert len(expected) == 1
    assert expected[0] > 0
    with pytest.raises(Interrupted):
        run(tiny(*FAST, "experiment.name=other", "train.stop_after=6", "train.epochs=2"))
    run(tiny(*FAST, "experiment.name=other", "train.epochs=2"))
    assert len(expected) == 2


def test_the_last_measurements_stop_at_once_and_resume_piece_by_piece(
    tiny: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a signal and by the clock, in the middle of a piece; no piece is finished twice, and the
    record is the same."""
    calm, limited = tiny("experiment.name=calm"), tiny("experiment.name=limited")
    run(calm)
    made: list[str] = []
    original = classification.hessian_split

    def slow(*arguments: object) -> dict[str, object]:
        made.append("hessian")
        if len(made) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        if len(made) == 3:
            signal.setitimer(signal.ITIMER_REAL, 0.01)  # the budget ends
            time.sleep(5)
            raise AssertionError("no alarm")
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(classification, "hessian_split", slow)
    for cause in ("SIGTERM", "time limit"):
        with pytest.raises(Interrupted, match=rf"final measurements \({cause}\)"):
            run(limited)
        assert not store.is_finished(limited.directory)
        assert (limited.directory / finish_module.MEASURED_FILE).is_file()
    run(limited)
    assert made == ["hessian"] * 4  # train; test, stopped; test, stopped; test
    assert differences(calm, limited) == ["result.experiment"]
    assert not (limited.directory / finish_module.MEASURED_FILE).exists()


def test_the_clock_interrupts_the_last_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BUDGET_END, str(time.monotonic() + 0.05))
    before = signal.getsignal(signal.SIGALRM)
    with signals.StopSignal() as stop, pytest.raises(Interrupted, match="time limit"), stop.interrupting():
        time.sleep(5)
    assert signal.getsignal(signal.SIGALRM) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_measurements_of_other_weights_and_damaged_ones_are_repeated(tmp_path: Path) -> None:
    file = tmp_path / "measured.json"
    value = {"x": 0.1 + 0.2, "y": float("inf"), "n": 7}
    assert finish_module.SavedPieces(file.parent, 5).once("a", lambda: value) == value
    assert finish_module.SavedPieces(file.parent, 5).once("a", lambda: None) == value
    assert finish_module.SavedPieces(file.parent, 6).once("a", lambda: "new") == "new"
    file.write_text('{"step": 6, "a": ')
    assert finish_module.SavedPieces(file.parent, 6).once("a", lambda: "again") == "again"


STUCK = """
import sys, time
from pathlib import Path
from conftest import TINY, compose_tree
from sns.launch import attempt as module, budget
from sns.train import stop as signals
from sns.train.configure import configure
config = configure(compose_tree(*TINY, f"results={sys.argv[1]}", f"launch.budget={sys.argv[2]}"))
signals.STARTED = time.monotonic()
budget.announce(config.launch)
def stuck(config, command, stop):
    if sys.argv[3] == "saved":
        (config.directory / "checkpoint.pt").write_text("")
    time.sleep(60)
module.training = stuck
module.had_its_share = lambda launch, seconds: sys.argv[3] != "late"
module.attempt(config, "", in_sweep=True)
"""


@pytest.mark.parametrize(("what", "state"), [("nowhere", "refused"), ("saved", "stopped"), ("late", "stopped")])
def test_a_run_that_cannot_stop_is_cut_off_and_counts_as_no_failure(tmp_path: Path, what: str, state: str) -> None:
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    done = subprocess.run(
        [sys.executable, "-c", STUCK, str(tmp_path), "1s", what],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert done.returncode == 75, done
    (directory,) = (tmp_path / "runs/single").iterdir()
    last = attempts.load(directory)
    assert (last.state, last.failures) == (state, 0)
    assert ("is too short for it" in done.stderr) == (state == "refused")
    assert "Traceback" not in done.stderr


def test_all_runs_of_a_process_are_noted_when_it_is_cut_off() -> None:
    """Else the others would count as killed."""
    code = (
        "import time\nfrom sns.launch.budget import announce, end_in_time\n"
        "from sns.config.schema import LaunchConfig\nfrom sns.train import stop\n"
        "launch, stop.STARTED = LaunchConfig(budget='0.2s'), time.monotonic()\nannounce(launch)\n"
        "with end_in_time(launch, lambda: 'ended before'): pass\n"
        "with end_in_time(launch, lambda: 'first'), end_in_time(launch, lambda: 'second'): time.sleep(60)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (75, "first\nsecond\n")


def train(results: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "scripts/train.py"), "-m", *SWEEP, f"results={results}", *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


SWEEP = [
    *TINY,
    "experiment.name=budgets",
    "train.threads=1",
    "method=vanilla,spectral",
    "data.flip=true",
    "train.epochs=40",
]
LAUNCHERS = {"basic": [], "local": ["hydra/launcher=local", "launch.processes=2"]}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_budgets_and_a_kill_end_as_a_calm_sweep(tmp_path: Path, launcher: str) -> None:
    """Budgets of a few seconds, one of them killed with all its processes, until all runs are done:
    equal to the bit."""
    limited, calm = (expanded(*SWEEP, f"results={tmp_path / name}") for name in ("limited", "calm"))
    for config in calm:
        attempt(config, "", in_sweep=True)
    codes: list[int] = []
    began = time.monotonic()
    train(tmp_path / "nothing", "launch.budget=0.1s", *LAUNCHERS[launcher]).communicate()
    seconds = math.ceil(1 + 3 * (time.monotonic() - began))  # whatever this machine takes to start
    for trial in range(40):
        process = train(tmp_path / "limited", f"launch.budget={seconds}s", *LAUNCHERS[launcher])
        if trial == 0:
            while process.poll() is None and not list((tmp_path / "limited").rglob("checkpoint.pt")):
                time.sleep(0.05)
            killed = [process.pid, *descendants_of(process.pid)]
            for pid in killed:
                os.kill(pid, signal.SIGKILL)
            process.communicate()
            continue
        out, err = process.communicate(timeout=20 * seconds)  # it ended on its own
        codes.append(process.returncode)
        assert "Traceback" not in err
        assert f"time budget of {seconds}s" in out, err
        if process.returncode == 0:
            break
        assert "left for the next budget" in out
    assert codes[-1] == 0
    assert set(codes[:-1]) <= {75}  # none where the first whole budget sufficed
    for a, b in zip(calm, limited, strict=True):
        assert differences(a, b) == []
    assert max(attempts.load(config.directory).begun for config in limited) > 1


def descendants_of(pid: int) -> list[int]:
    own = [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/stat") if parent_of(path) == pid]
    return own + [below for child in own for below in descendants_of(child)]


def parent_of(stat: Path) -> int:
    try:
        return int(stat.read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0
