"""The expansion of a sweep: every combination, composed as Hydra composes it, once for all
readers."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, TINY, compose_tree
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from sns.common.errors import UserError
from sns.config.schema import Config
from sns.launch.sweep import CONFIGS, dry_run, expand
from sns.train.configure import configure


def configs(*overrides: str) -> list[Config]:
    runs, errors = dry_run(overrides)
    assert not errors
    return [run.config for run in runs]


def test_table1_is_the_papers_32_cells() -> None:
    runs = configs("experiment=table1", "results=/nowhere")
    ids = [run.run_id for run in runs]
    assert len(set(ids)) == len(ids) == 32
    assert {(run.batch.size, run.train.epochs) for run in runs} == {(64, 300), (4096, 300)}
    one = configure(compose_tree("experiment=table1", "setting=nin_cifar100", "batch=large", "method=adversarial"))
    assert one.run_id in ids


def test_seeds_multiply_and_the_command_line_wins_over_the_experiment() -> None:
    overrides = ["experiment=table1", "seed=0,1,2", "setting=vgg_cifar10", "method=decay,spectral", "results=/nowhere"]
    runs = configs(*overrides)
    assert len(runs) == 2 * 2 * 3
    assert {run.seed for run in runs} == {0, 1, 2}
    assert {run.setting for run in runs} == {"vgg_cifar10"}
    assert {run.optim.lr for run in configs("experiment=grid_search", "optim.lr=0.5", "method.scale=1,2")} == {0.5}


def test_a_single_seed_is_the_one_that_is_trained() -> None:
    assert [run.seed for run in configs("setting=digits_vgg", "seed=5")] == [5]
    assert {run.seed for run in configs("experiment=demo", "seed=5")} == {5}


def test_a_field_may_refer_to_a_swept_one() -> None:
    folds = [run.data.path for run in configs(*TINY, "data=npz", "data.path='folds/fold${seed}.npz'", "seed=0,1,2")]
    assert folds == [f"folds/fold{seed}.npz" for seed in range(3)]


def test_bad_combinations_are_one_sentence_each_and_the_others_remain() -> None:
    runs, errors = dry_run([*TINY, "seed=0,abc,1", "batch.size=16,0"])
    assert [(run.config.seed, run.config.batch.size) for run in runs] == [(0, 16), (1, 16)]
    assert len(errors) == 2  # a line for each mistake, not for each combination
    assert errors[0].startswith("seed has a wrong value")
    assert errors[1].startswith("batch.size=0 must be positive [")
    assert errors[1].endswith(", and 2 more]")
    with pytest.raises(UserError, match=r"there is no train\.epoch"):
        dry_run(["train.epoch=3"])


@pytest.mark.parametrize(
    "overrides",
    [
        [
            "experiment=demo",
            "optim={lr: 0.3}",
            "~task.alpha",
            "method=vanilla,spectral",
            "setting=digits_vgg,digits_nin",
        ],
        ["experiment=sensitivity/ghost", "optim.lr='${data.subset}'", "data.subset=100,200", "optim=nesterov,sgd"],
        ["method=vanilla,decay", "batch=small,large", "+regimes.small.dose_factor=2,3", "regimes.large.lr=0.1,0.2"],
        ["setting=digits_vgg", "++train.epochs=1,2", "launch.priority=['method=decay','seed=0']"],
    ],
)
def test_every_run_is_composed_as_hydra_composes_it(overrides: list[str]) -> None:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        master = loader.load_configuration("config", overrides, RunMode.MULTIRUN)
        runs, _ = expand(loader, master)  # type: ignore[arg-type]
        assert len(runs) > 1
        for run in runs[:: len(runs) // 8 or 1]:
            tree = loader.load_sweep_config(master, list(run.overrides))
            assert run.config == configure({name: tree[name] for name in tree if name != "hydra"})


def test_files_that_choose_for_hydra_itself_are_composed_too(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\ndefaults: [override /hydra/launcher: local, override /method: decay]\n"
    (tmp_path / "experiment/mine.yaml").write_text(text + "experiment: {name: mine}\n")
    shutil.copytree(CONFIGS, tmp_path, dirs_exist_ok=True)
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        words = ["experiment=mine", "hydra/launcher=slurm", "hydra.launcher.partition=x", "batch=small,large"]
        runs, errors = expand(loader, loader.load_configuration("config", words, RunMode.MULTIRUN))  # type: ignore[arg-type]
    assert not errors
    assert [(run.config.method.name, run.config.batch.regime) for run in runs] == [
        ("decay", "small"),
        ("decay", "large"),
    ]


def test_the_dry_run_and_the_real_one_are_one_sweep(tmp_path: Path) -> None:
    overrides = [*TINY, "experiment=sensitivity/operator", "setting=digits_vgg", f"results={tmp_path}", "seed=0,1"]
    overrides += ["data=npz", f"data.path='{tmp_path}/fold${{seed}}.npz'", "method.factor=0.1,0.2", "launch.retries=0"]
    command = [sys.executable, str(ROOT / "scripts/train.py"), "-m", *overrides]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr  # no such archive
    manifest = json.loads((tmp_path / "runs/sensitivity/manifest.json").read_text())
    assert list(manifest["runs"]) == [run.run_id for run in configs(*overrides)]
    assert len(manifest["runs"]) == 16
    assert all(f"fold{seed}.npz does not exist" in done.stderr for seed in (0, 1))
