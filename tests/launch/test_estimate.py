"""Estimates of the dry run: the counted work, the measured speed, the pocket runs as they went."""

import copy
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT, TINY, compose_tree

from sns.config import compose
from sns.config.schema import Config
from sns.launch import estimate, throughput, work
from sns.launch.estimate import Estimator, warning
from sns.launch.sweep import dry_run
from sns.launch.throughput import Machine
from sns.train.configure import configure

XEON = "Intel(R) Xeon(R) Processor (2 logical cores)"  # of the runs in results/runs/pocket
CARD = "NVIDIA H100 80GB HBM3"


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """`on(name)`: the device has this name."""
    return lambda name: monkeypatch.setattr(estimate, "describe", lambda device: {"device": name})


def config(*overrides: str) -> Config:
    return configure(compose_tree(*overrides))


def test_a_network_is_counted_as_on_paper() -> None:
    counted = work.network(
        config("setting=digits_vgg", "model.widths=[[4],[8]]", "model.dropout=[[0.0],[0.0]]", "model.hidden=6")
    )
    by_hand = 2 * 64 * 4 * 9 * 1 + 2 * 16 * 8 * 9 * 4 + 2 * (8 * 2 * 2) * 6 + 2 * 6 * 10
    assert counted.image.flops == by_hand
    assert counted.parameters == 36 + 8 + 288 + 16 + 192 + 12 + 60
    assert counted.matrices == ((4, 9), (8, 36), (6, 32), (10, 6))
    per_image = work.network(config("setting=vgg_cifar10")).image
    assert per_image.flops * 3 == pytest.approx(1.88e9, rel=0.01)
    halves = (
        work.network(config("setting=vgg_pocket")),
        work.network(config("setting=vgg_pocket", "data.resolution=null")),
    )
    assert halves[1].image.flops > 3.5 * halves[0].image.flops  # at the resolution that is trained


def test_the_passes_and_the_penalty_of_a_method_are_counted() -> None:
    counted = {
        name: work.problem(config(f"method={name}"))
        for name in ("vanilla", "decay", "adversarial", "spectral", "jacobian")
    }
    assert {name: problem.passes for name, problem in counted.items()} == {
        "vanilla": 1,
        "decay": 1,
        "adversarial": 2,
        "spectral": 1,
        "jacobian": 3,  # the term costs two
    }
    assert counted["vanilla"].rest == work.Work()
    twice = work.problem(config("method=spectral", "method.n_iterations=2")).rest
    weights = sum(rows * columns for rows, columns in work.network(config()).matrices)
    assert twice.flops - counted["spectral"].rest.flops == 2 * 2 * weights  # W v and W^T u


def test_counting_leaves_the_random_numbers_and_imports_no_compiler() -> None:
    before = torch.get_rng_state()
    work._counted.clear()
    work.update(config("method=spectral"))
    work.update(config("method=jacobian"))  # whose term draws dropout masks
    assert torch.equal(torch.get_rng_state(), before)
    code = (
        "import sys; from sns.launch.sweep import dry_run; from sns.launch import work;"
        "work.update(dry_run(['seed=0'])[0][0].config); sys.exit('sympy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_each_network_is_drawn_once_and_copied_for_methods_that_change_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "_counted", {})
    copied, copies = copy.deepcopy, []
    monkeypatch.setattr(copy, "deepcopy", lambda x, memo=None: copies.append(x) or copied(x, memo))
    for method in ("vanilla", "decay", "adversarial", "spectral"):
        plain = work.problem(config(f"method={method}"))
        assert plain == work.problem(config(f"method={method}", "seed=1"))
    assert not [x for x in copies if isinstance(x, torch.nn.Module)]
    names = list(work._drawn(config()).state_dict())
    work.problem(config("method=spectral_normalization"))
    assert [x for x in copies if isinstance(x, torch.nn.Module)] == [work._drawn(config())]
    assert list(work._drawn(config()).state_dict()) == names


def test_estimates_are_within_a_factor_of_two_of_the_pocket_runs(
    on: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of the 24 cells, its own records left out, from others of this experiment: later ones
    of a processor of this name are of another machine and another memory format."""
    on(XEON)
    monkeypatch.setattr(estimate, "project_folder", lambda name: tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "pocket").symlink_to(ROOT / "results" / "runs" / "pocket")
    images = ["data=npz", "data.path=cifar10.npz"]
    sweeps = [["setting=vgg_pocket", *images], ["setting=nin_pocket,densenet_pocket"]]
    runs = [
        run.config
        for words in sweeps
        for run in dry_run(["experiment=pocket", "seed=0", f"results={tmp_path}", *words])[0]
    ]
    records = throughput.results_of(tmp_path, XEON)
    estimator, ratios = Estimator(), {}
    for run in runs:
        variant = run.variant
        run.measure.recalibration_samples = None  # not yet measured then
        took = [tree["timings"] for _, tree in records[run.setting][variant]]
        measured = statistics.median(t["train_seconds"] + t["measure_seconds"] for t in took)
        expected = estimator.seconds(run, without=variant)
        assert expected is not None
        ratios[run.run_id] = expected / measured
    assert len(ratios) == 24
    assert {name: ratio for name, ratio in ratios.items() if not 0.5 < ratio < 2} == {}
    assert estimator.basis() == "operations counted; speed from records of the same setting on this machine (24 runs)"


@pytest.mark.parametrize(
    ("setting", "milliseconds"), [("vgg_cifar10", (5.9, 1.7, 1.15)), ("densenet22_stl10", (46, 23, 12))]
)
def test_a_known_card_has_the_times_of_its_cost_model(setting: str, milliseconds: tuple[float, ...]) -> None:
    step = work.update(config(f"setting={setting}"))
    for precision, expected in zip(("fp32", "tf32", "bf16"), milliseconds, strict=True):
        assert Machine(CARD, host=False).rates().seconds(step, precision) == pytest.approx(expected / 1e3, rel=0.2)
    assert "not measured" in Machine(CARD, host=False).basis
    assert "guess" in Machine("Other GPU", host=False).basis


def bench_results(folder: Path, name: str, lines: list[dict[str, Any]]) -> None:
    tree = {"environment": {"device": name, "threads": 2}, "rows": {"5": {"lines": lines}}}
    (folder / "machine.json").write_text(json.dumps(tree))


def test_measurements_of_this_machine_come_before_its_name(on: Callable[[str], None], tmp_path: Path) -> None:
    on("Quantum 1")
    run = config("setting=vgg_cifar10", "train.threads=2", "train.epochs=1", f"results={tmp_path}")
    by_name = Estimator(folder=tmp_path).seconds(run)
    line = {"what": "vanilla step, VGG, CIFAR-10, B = 64", "unit": "s", "ours": {"median": 7.0}, "note": "eager, fp32"}
    bench_results(tmp_path, "Quantum 1", [line, {"what": "other", "unit": "s", "ours": None, "note": ""}])
    throughput.of_bench.cache_clear()
    measured = Estimator(folder=tmp_path)
    seconds = measured.seconds(run)
    assert by_name is not None
    assert seconds is not None
    assert seconds / by_name == pytest.approx(7.0 / Machine("", True, 2).rates().seconds(work.update(run), "fp32"))
    assert "bench/results" in measured.basis()
    on("Quantum 2")
    assert Estimator(folder=tmp_path).seconds(run) == pytest.approx(by_name)
    throughput.of_bench.cache_clear()


def test_real_updates_are_timed_within_a_minute(on: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    on("Quantum 1")
    monkeypatch.setattr(estimate, "_second_call", lambda call, device: (call(), 3.0)[1])
    run = config(*TINY, "method=adversarial")
    estimator = Estimator(timing=True)
    seconds = estimator.seconds(run)
    assert seconds is not None
    assert seconds > 3.0 * work.length(run).updates  # 16 images take longer than the 4 that were timed
    assert "timed now" in estimator.basis()
    estimator.end = time.monotonic()
    assert (estimator.seconds(run) or 0) < 1


def test_a_sweep_of_more_than_a_day_is_announced(
    on: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on("Quantum 1")
    place = f"results={tmp_path}"
    long = [run.config for run in dry_run(["experiment=table1", "train.threads=1", place])[0]]
    sentence = warning(long)
    assert sentence is not None
    assert sentence.startswith("32 runs need about ")
    assert all(word in sentence for word in ("make pocket", "EXPERIMENT=table1_short", "setting=vgg_cifar10"))
    short = [run.config for run in dry_run([*TINY, "seed=0,1", place])[0]]
    assert warning(short) is None
    monkeypatch.setattr(work, "_once", lambda key, make: pytest.fail("a short sweep is not worth counting"))
    assert warning(short) is None
    with pytest.raises(pytest.fail.Exception):
        warning(long)


def test_bf16_evaluations_are_expected_to_save_the_time_of_passes_without_gradients() -> None:
    run = config(*TINY, "measure.gradient_samples=30", "measure.recalibration_samples=10")
    passes = work.network(run).image.flops * (100 - 30) * 3 + work.network(run).image.flops * 50 * 3
    assert work.forwards(run, host=False).flops == pytest.approx(passes)  # two epochs and the end, in two ways
    rates = Machine(CARD, host=False).rates()
    fp32, bf16 = (
        estimate.measuring_seconds(replace(run, measure=replace(run.measure, precision=p)), rates, host=False)
        for p in ("fp32", "bf16")
    )
    saved = sum(sign * rates.seconds(work.forwards(run, False), p) for sign, p in ((1, "fp32"), (-1, "bf16")))
    assert fp32 - bf16 == pytest.approx(saved)
    assert 0 < saved < fp32


def test_what_cannot_be_counted_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(work, "_counted", {})
    monkeypatch.setattr(throughput, "_read", {})
    monkeypatch.setattr(work, "_drawn", fails)
    assert Estimator().seconds(config(*TINY)) is None
    throughput.results_of.cache_clear()
    assert throughput.of_records([ROOT / "results"], Machine(XEON, True), "nin_pocket") == []


def test_the_nearest_key_is_looked_for_after_a_mistake_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compose, "nearest", lambda *_: pytest.fail("looked for"))
    config(*TINY)


def test_a_gan_is_estimated_from_records_of_its_setting(tmp_path: Path) -> None:
    """The nearest ones: of its method and optimizer, of its optimizer, of any."""
    base = ["setting=sngan_digits", f"results={tmp_path}", "train.epochs=10"]

    def planned(*words: str) -> Config:
        return configure(compose_tree(*base, *words))

    def record(seconds: float, *words: str) -> None:
        run = planned(*words)
        tree = {
            "status": "ok",
            "environment": {"device": "here"},
            "setting": run.setting,
            "variant": run.variant,
            "method": run.method.name,
            "optimizer": run.optim.name,
            "epochs": 5.0,
            "timings": {"train_seconds": seconds, "measure_seconds": 1.0},
        }
        run.directory.mkdir(parents=True)
        (run.directory / "config.yaml").write_text("{}")
        (run.directory / "result.json").write_text(json.dumps(tree))

    record(9.0, "optim=adam_a", "method=vanilla")
    record(19.0, "optim=adam_c", "method=vanilla")
    record(39.0, "optim=adam_c", "method=spectral")
    machine = throughput.Machine("here", True, 1)
    throughput.results_of.cache_clear()

    def seconds(*words: str) -> float | None:
        return throughput.seconds_an_epoch([tmp_path], machine, planned(*words))

    assert seconds("optim=adam_c", "method=spectral") == 40 / 5
    assert seconds("optim=adam_c", "method=weight_norm") == 30 / 5
    assert seconds("optim=adam_f", "method=weight_norm") == 20 / 5
    assert throughput.seconds_an_epoch([tmp_path / "none"], machine, planned()) is None
