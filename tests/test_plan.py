"""The plan of a grid: the same runs as a sweep trains, their states, and the time left."""

from pathlib import Path

import pytest
from conftest import ROOT, TINY, compose_tree
from hydra import initialize_config_dir

from sns.common.errors import ConfigError
from sns.launch.plan import Planned, expand, remaining, state_of
from sns.train.configure import configure
from sns.train.run import run
from sns.train.stop import Interrupted

FAST = [*TINY, "measure.hessian=false", "measure.spectra=false"]


def plan(*overrides: str) -> list[Planned]:
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return [state_of(config) for config in expand(list(overrides))]


def test_table1_is_the_papers_32_cells() -> None:
    items = plan("experiment=table1", "results=/nowhere")
    ids = [item.config.run_id for item in items]
    assert len(set(ids)) == len(ids) == 32
    assert {item.state for item in items} == {"to do"}
    assert {(item.config.batch.size, item.config.train.epochs) for item in items} == {(64, 300), (4096, 300)}
    one = configure(compose_tree("experiment=table1", "setting=nin_cifar100", "batch=large", "method=adversarial"))
    assert one.run_id in ids


def test_seeds_multiply_and_the_command_line_wins_over_the_experiment() -> None:
    items = plan("experiment=table1", "seed=0,1,2", "setting=vgg_cifar10", "method=decay,spectral", "results=/nowhere")
    assert len(items) == 2 * 2 * 3
    assert {item.config.seed for item in items} == {0, 1, 2}
    assert {item.config.setting for item in items} == {"vgg_cifar10"}


def test_a_single_seed_is_the_one_that_is_trained() -> None:
    assert [item.config.seed for item in plan("setting=digits_vgg", "seed=5", "results=/nowhere")] == [5]
    assert {item.config.seed for item in plan("experiment=demo", "seed=5", "results=/nowhere")} == {5}
    with pytest.raises(ConfigError, match="seed=abc"):
        plan("setting=digits_vgg", "seed=abc,1")


def test_states_and_time_left(tmp_path: Path) -> None:
    overrides = [*FAST, f"results={tmp_path}", "method=vanilla,decay", "seed=0,1"]
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        configs = expand(overrides)
    run(configs[0])
    begun = configure(compose_tree(*FAST, f"results={tmp_path}", "method=decay", "train.stop_after=2"))
    with pytest.raises(Interrupted):
        run(begun)
    items = [state_of(config) for config in configs]
    assert [item.state for item in items] == ["done", "to do", "begun", "to do"]
    left = remaining(items, lambda config: 100.0)
    assert left == {
        items[1].config.run_id: items[0].seconds,  # as long as its finished sibling
        items[2].config.run_id: 100.0,
        items[3].config.run_id: 100.0,
    }
    (configs[0].directory / "result.json").write_text("{")
    assert state_of(configs[0]).state == "damaged"


def test_an_estimate_is_made_at_the_resolution_that_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    from sns.launch import estimate

    sides: list[int] = []
    original = estimate.model.build
    monkeypatch.setattr(estimate.model, "build", lambda *args: (sides.append(args[2]), original(*args))[1])
    for resolution in ("null", "16"):
        config = configure(compose_tree("setting=vgg_pocket", f"data.resolution={resolution}", "train.device=cpu"))
        assert estimate.run_seconds(config) > 0
    assert sides == [32, 16]


def test_an_estimate_is_made_from_real_updates() -> None:
    from sns.launch.estimate import run_seconds

    short, long = (configure(compose_tree(*TINY, f"train.epochs={epochs}")) for epochs in (1, 1000))
    assert run_seconds(long) > 50 * run_seconds(short) > 0
