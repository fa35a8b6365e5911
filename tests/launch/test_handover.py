"""What a command composes, its children compose: runs are composed once and handed over."""

import contextlib
import json
import math
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT, TINY, compose_tree
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from hydra.utils import get_class
from omegaconf import OmegaConf

from sns.common.errors import ConfigError, UserError
from sns.config.compose import SECTIONS
from sns.launch import guest, handover, place, switches
from sns.launch.sweep import CONFIGS, dry_run, expand
from sns.train.configure import configure, registered_options

FAST = [*TINY, "measure.hessian=false", "measure.spectra=false", "train.epochs=0.2", "launch.retries=0"]


def train(*words: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts/train.py"), *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)


def own_experiment(folder: Path) -> None:
    (folder / "mycfg/experiment").mkdir(parents=True)
    text = "# @package _global_\nexperiment: {name: mine}\nhydra: {sweeper: {params: {seed: '0,1'}}}\n"
    (folder / "mycfg/experiment/mine.yaml").write_text(text)


@pytest.mark.parametrize("launcher", [("hydra/launcher=local", "launch.processes=2"), ("hydra.job.chdir=true",)])
def test_children_need_no_folder_of_configurations_and_the_command_repeats_the_run(
    tmp_path: Path, launcher: tuple[str, ...]
) -> None:
    own_experiment(tmp_path)
    done = train("-cd", "mycfg", "-m", "experiment=mine", *launcher, *FAST, "results='a, b=${seed}'", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    records = sorted(tmp_path.glob("*/runs/mine/*/result.json"))
    assert {record.relative_to(tmp_path).parts[0] for record in records} == {"a, b=0", "a, b=1"}
    assert not list(tmp_path.rglob(".launch-*"))
    command = shlex.split(json.loads(records[1].read_text())["command"])
    again = train(*command[2:], folder=tmp_path)
    assert again.returncode == 0, again.stderr
    assert f"finished already: a, b=1/runs/mine/{records[1].parent.name}," in again.stdout


def test_a_handed_over_run_is_the_run(tmp_path: Path) -> None:
    run = dry_run([*FAST, f"results={tmp_path}", "experiment=sensitivity/operator", "seed=3"])[0][0]
    odd = tmp_path / "it's ${a}, \\'b=[c]"
    odd.mkdir()
    word = handover.write(odd, run, progress="lines")
    back = handover.read(compose_tree(word).launch.run)
    assert handover.named([word]) == compose_tree(word).launch.run
    assert handover.named([word, "seed=1"]) is handover.named(["seed=1"]) is None
    assert (back.overrides, back.command, back.config) == (run.overrides, run.command, run.config)  # progress=none
    loud = replace(run, config=replace(run.config, train=replace(run.config.train, progress="auto")))
    assert handover.read(compose_tree(handover.write(odd, loud, "lines")).launch.run).config.train.progress == "lines"
    with pytest.raises(UserError, match="is no run that a launcher wrote"):
        handover.read(str(ROOT / "LICENSE"))


def test_a_launcher_of_others_receives_composed_runs(tmp_path: Path) -> None:
    runs = dry_run([*FAST, f"results={tmp_path}", "seed=0,1"])[0]
    received: list[handover.SweepRun] = []

    class Theirs:
        def launch(self, jobs: Sequence[Sequence[str]], initial_job_idx: int) -> None:
            received.extend(handover.read(compose_tree(*words).launch.run) for words in jobs)

    sweeper = get_class("hydra_plugins.sns_launch.sweeper.SnsSweeper")(max_batch_size=None)  # Hydra loads plugins anew
    sweeper.launcher, sweeper.budget = Theirs(), None
    sweeper._launch(runs)
    assert [run.config for run in received] == [run.config for run in runs]


def test_a_run_composed_once_for_all_is_the_one_that_hydra_composes(tmp_path: Path) -> None:
    runs = dry_run([*FAST, f"results={tmp_path}", "seed=0,1"])[0]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        master = loader.load_configuration("config", ["experiment=demo", f"results={tmp_path}"], RunMode.MULTIRUN)
        once = get_class("hydra_plugins.sns_launch.sweeper.ComposedOnce")(loader)
        for run in runs:
            words = [handover.write(tmp_path, run)]
            assert once.load_sweep_config(master, words) == loader.load_sweep_config(master, words)


HYDRA = {
    "job": {"config_name": "config"},
    "overrides": {"hydra": ["hydra.run.dir=x"]},
    "runtime": {"config_sources": [{"provider": "main", "path": str(CONFIGS)}, {"provider": "schema", "path": ""}]},
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, ""),
        ({"job": {"config_name": "mine"}}, " --config-name mine"),
        ({"overrides": {"hydra": ["hydra.searchpath=[file:///a]"]}}, " 'hydra.searchpath=[file:///a]'"),
        ({"runtime": {"config_sources": [{"provider": "main", "path": "/my"}]}}, " --config-path /my"),
        ({"runtime": {"config_sources": [{"provider": "command-line", "path": "/my"}]}}, " --config-dir /my"),
    ],
)
def test_the_repeating_command_names_where_the_files_are(change: dict[str, object], words: str) -> None:
    command = handover.repeating(["seed=1"], OmegaConf.create(HYDRA | change))
    assert command == f"python scripts/train.py seed=1{words}"


def test_one_mistake_is_printed_by_one_run_of_a_launch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (str(tmp_path / f"{name}.yaml") for name in "ab")
    assert [handover.first_to_say(file, "x") for file in (first, second)] == [True, False]
    assert handover.first_to_say(second, "y")
    assert handover.first_to_say(None, "x")
    monkeypatch.setenv("SNS_LAUNCHER", "slurm")
    assert handover.first_to_say(second, "x")


def test_a_mistake_is_one_line_whatever_the_options_hold(tmp_path: Path) -> None:
    alone = train("launch.run=x", "seed=1", folder=tmp_path)
    assert "launch.run takes the place of all other options" in alone.stderr
    broken = train("experiment.name='a\nb'", folder=tmp_path)
    two = train("seed=1", "-m", "--cfg", "job", folder=tmp_path)
    assert two.stderr.startswith("error: --multirun and --cfg are different commands")
    assert [(done.returncode, done.stderr.count("\n")) for done in (alone, broken, two)] == [(1, 1)] * 3


def test_experiments_in_a_sweep_are_expanded_one_after_the_other() -> None:
    both = [run.config.run_id for run in dry_run(["experiment=demo,sensitivity/ghost", "method=vanilla"])[0]]
    alone = [
        run.config.run_id
        for name in ("demo", "sensitivity/ghost")
        for run in dry_run([f"experiment={name}", "method=vanilla"])[0]
    ]
    assert both == alone
    assert len(both) == 6 + 12
    runs, errors = dry_run(["experiment=table1_short,nothing", "setting=nin_cifar100", "batch=small"])
    assert len(runs) == 4
    assert len(errors) == 1
    assert errors[0].startswith("there is no experiment=nothing")


def test_options_of_the_whole_sweep_have_one_value() -> None:
    with pytest.raises(UserError, match=r"launch\.processes has several values in this sweep \(1, 2\)"):
        dry_run(["launch.processes=1,2"])


@pytest.mark.parametrize("option", ["results=a,b", "experiment.name=a,b", "train.device=cpu,auto"])
def test_what_does_not_distinguish_runs_has_one_value(option: str) -> None:
    """Otherwise one of them would be trained, and the sweep would end as finished."""
    key, _, values = option.partition("=")
    with pytest.raises(UserError) as error:
        dry_run([option, "seed=0,1"])
    assert str(error.value).startswith(f"{key} has several values in this sweep ({values.replace(',', ', ')}) and does")


def test_runs_may_be_named_twice_and_differ_in_their_launch() -> None:
    assert len(dry_run(["seed=0,0", "launch.retries=1,2"])[0]) == 4


def test_a_sweep_of_sweeps_inside_a_file_is_refused(tmp_path: Path) -> None:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        words = ["hydra.sweeper.params={experiment: 'demo,table1'}"]
        master = loader.load_configuration("config", words, RunMode.MULTIRUN)
        with pytest.raises(UserError, match=r"hydra\.sweeper\.params sweeps experiment"):
            expand(loader, master)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name",
    ["a/b", "..", "-x", ".x", "x ", " x", "x" * 65, "x" * 300, "größe", "", "x.", "a\nb", "Paper", "runs", "wandb"],
)
def test_words_that_cannot_name_a_folder_are_refused(name: str) -> None:
    plain = handover.to_dict(configure(compose_tree(*TINY)))
    with pytest.raises(ConfigError, match=r"experiment\.name=.*(cannot name a folder|is reserved)") as caught:
        configure(plain | {"experiment": {"name": name}})
    assert len(str(caught.value)) < 300
    if name not in ("Paper", "runs", "wandb"):
        with pytest.raises(ConfigError, match=r"setting=.*cannot name a folder"):
            configure(plain | {"setting": name})


def test_a_method_whose_name_cannot_name_a_folder_is_refused() -> None:
    config = configure(compose_tree(*TINY))
    with pytest.raises(ConfigError, match=r"method\.name='a/b' cannot name a folder"):
        replace(config, method=replace(config.method, name="a/b"))


@pytest.mark.parametrize("flags", [(), ("-m",)])
def test_the_training_command_asks_for_the_place_before_it_writes(tmp_path: Path, flags: tuple[str, ...]) -> None:
    (tmp_path / "runs/demo").mkdir(parents=True)
    done = train(*flags, *FAST, "results=.", "experiment.name=Demo", folder=tmp_path)
    assert done.returncode == 1
    assert "experiment.name=Demo differs from demo" in done.stderr
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["demo"]


def test_a_file_in_the_way_and_names_that_differ_in_case_alone_are_refused(tmp_path: Path) -> None:
    def at(results: Path, name: str) -> None:
        place.check(configure(compose_tree(*TINY, f"results={results}", f"experiment.name={name}")))

    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file is a file, not a folder: name another folder"):
        at(tmp_path / "file", "x")
    with pytest.raises(UserError, match=r"cannot be used \(File name too long\): name another folder by results="):
        at(tmp_path / ("x" * 300), "x")
    (tmp_path / "runs/demo").mkdir(parents=True)
    at(tmp_path, "demo")
    at(tmp_path, "demo2")
    with pytest.raises(UserError, match=r"experiment\.name=Demo differs from demo"):
        at(tmp_path, "Demo")


def numeric_fields() -> list[str]:
    classes = [*SECTIONS.items(), *((g, c) for g, known in registered_options().items() for c in known.values())]
    found = {f"{s}.{name}" for s, c in classes for name, kind in c.__annotations__.items() if _numeric(kind)}
    return sorted(found)


def _numeric(kind: object) -> bool:
    return "float" in str(kind) or "int" in str(kind).replace("Print", "")


def test_no_numeric_option_takes_what_is_no_number() -> None:
    fields = numeric_fields()
    assert len(fields) > 40
    plain, registered, accepted = handover.to_dict(configure(compose_tree(*TINY))), registered_options(), []
    for field in fields:
        section, _, name = field.partition(".")
        owners = [n for n, c in registered.get(section, {}).items() if name in c.__dataclass_fields__]
        own = {"name": owners[0]} if owners and plain[section]["name"] not in owners else plain[section]
        for value in (math.inf, -math.inf, math.nan, 1e300, 10**400, -(10**400)):
            with contextlib.suppress(ConfigError):
                configure(plain | {section: own | {name: value}})
                accepted.append(f"{field}={value}")
    assert not accepted


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("-m --cfg job", "--multirun and --cfg are different commands: choose one; scripts/plan.py lists"),
        ("-m --info", "--multirun and --info are different commands"),
        ("--cfg job --shell-completion install=bash", "--cfg and --shell-completion are different commands"),
        ("--resolve", "--resolve belongs to --cfg"),
        ("seed=1 --package train", "--package belongs to --cfg"),
        ("--nonsense", "unrecognized arguments: --nonsense"),
        ("--cfg", "expected one argument"),
    ],
)
def test_switches_that_do_not_fit_are_one_sentence(words: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        switches.checked(words.split())
    assert says in str(caught.value)


def test_switches_may_stand_between_options() -> None:
    assert switches.checked(["a=1", "-m", "-cd", "x", "b=2"]) == ["a=1", "b=2", "-m", "-cd", "x"]


SWEEPER = '''
from hydra.plugins.sweeper import Sweeper
from hydra.core.plugins import Plugins

class Fake(Sweeper):
    """Asks for two learning rates one after the other, as optimizers of hyper-parameters do."""

    def __init__(self, direction="minimize"):
        pass

    def setup(self, *, hydra_context, task_function, config):
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments):
        for rate in ("0.01", "0.02"):
            (job,) = self.launcher.launch([[*arguments, f"optim.lr={rate}"]], initial_job_idx=0)
            print("objective", float(job.return_value))
'''


@pytest.mark.parametrize("launcher", ["basic", "local"])
def test_a_sweeper_of_others_receives_the_score(tmp_path: Path, launcher: str) -> None:
    (tmp_path / "hydra_plugins/fake").mkdir(parents=True)
    (tmp_path / "hydra_plugins/fake/__init__.py").write_text(SWEEPER)
    (tmp_path / "c/hydra/sweeper").mkdir(parents=True)
    target = "_target_: hydra_plugins.fake.Fake\ndirection: minimize\n"
    (tmp_path / "c/hydra/sweeper/fake.yaml").write_text(target)
    words = ["-m", "-cd", "c", "hydra/sweeper=fake", f"hydra/launcher={launcher}", *FAST]
    path = f"{ROOT}{os.pathsep}{tmp_path}"
    wrong = train(*words, folder=tmp_path, PYTHONPATH=path)
    assert wrong.returncode == 1
    assert "a high test_accuracy is good: set hydra.sweeper.direction=maximize" in wrong.stderr
    assert len(wrong.stderr.splitlines()) == 1
    right = train(*words, "hydra.sweeper.direction=maximize", folder=tmp_path, PYTHONPATH=path)
    assert right.returncode == 0, right.stderr
    scores = [json.loads(f.read_text())["final"]["test_accuracy"] for f in tmp_path.rglob("result.json")]
    reported = [float(line.split()[1]) for line in right.stdout.splitlines() if line.startswith("objective")]
    assert sorted(reported) == sorted(scores)
    assert len(scores) == 2
    broken = train(*words, "hydra.sweeper.direction=maximize", "data.subset=99999", folder=tmp_path, PYTHONPATH=path)
    assert broken.returncode == 1
    assert "Traceback" not in broken.stderr
    assert "data.subset=99999" in broken.stderr


def test_a_run_that_diverged_is_infinitely_bad() -> None:
    class Row:
        status, high_is_good, score = "diverged", True, "test_accuracy"
        final = {"test_accuracy": 0.3}  # noqa: RUF012

    assert guest.objective(Row()) == -math.inf  # type: ignore[arg-type]
    Row.high_is_good = False
    assert guest.objective(Row()) == math.inf  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("right", "wrong", "advice"),
    [
        ({"direction": "maximize"}, {"direction": "minimize"}, "direction=maximize"),
        ({"optim": {"maximize": True}}, {"optim": {"maximize": False}}, "optim.maximize=true"),
        (
            {"ax_config": {"experiment": {"minimize": False}}},
            {"ax_config": {"experiment": {"minimize": True}}},
            "ax_config.experiment.minimize=false",
        ),
    ],
)
def test_each_sweepers_direction_is_compared_with_the_score(
    right: dict[str, object], wrong: dict[str, object], advice: str
) -> None:
    config = configure(compose_tree(*TINY))
    guest.check_direction(OmegaConf.create(right), config)
    with pytest.raises(guest.WrongDirection, match=f"set hydra.sweeper.{advice}$"):
        guest.check_direction(OmegaConf.create(wrong), config)
