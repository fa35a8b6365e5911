"""gpu-check on the stand-in: its lines, its recommendation, what a failed smoke run does."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT
from stand_in import StandIn

from bench import check, modes, packing
from bench.cells import Plan
from bench.check import BOXES, Check
from bench.line import FASTER, Line
from bench.timing import spread
from sns.launch import throughput
from sns.train.device import choose_device

sys.path.insert(0, str(ROOT / "scripts"))
import gpu_check


@pytest.fixture
def checked(tmp_path: Path, stand_in: type[StandIn]) -> Check:
    """A check of the first stand-in, tiny."""
    return Check(Plan(choose_device("cuda"), tmp_path, tiny=True), tmp_path / "check.jsonl", scale=10)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_it_runs_to_its_recommendation(checked: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    one = {"vgg_cifar10": check.NETWORKS["vgg_cifar10"]}
    monkeypatch.setattr(check, "NETWORKS", one)
    monkeypatch.setattr(check, "METHODS", ("vanilla", "spectral"))
    packed = [
        Line(10, f"{how}, VGG", "one", figure=spread([gain]), kind=FASTER)
        for how, gain in (("2 at a time", 1.4), ("2 in turns", 1.5))
    ]
    monkeypatch.setattr(check, "packing", lambda plan, settings, most: iter(packed))
    assert checked.main() == 0
    found = lines(checked.out)
    assert found[0]["what"] == "environment"
    assert found[0]["device"] == "stand-in"
    smoke = [line for line in found if line["what"] == "smoke"]
    assert [(line["method"], line["mode"]) for line in smoke] == [("vanilla", "graph"), ("spectral", "graph")]
    what = [line["what"] for line in found]
    assert sum(text.startswith("precision ") for text in what) == 2 * len(modes.PRECISIONS)
    assert all(
        any(text.startswith(start) for text in what) for start in ("vanilla step", "spectral step", "passes of 16")
    )
    assert [line["precision"] for line in found if line["what"] == "table"] == ["fp32", "tf32", "bf16"]
    assert all(line["hours"] > 0 for line in found if line["what"] == "table")
    assert found[-1]["what"] == "recommended"
    assert found[-1]["train.precision"] == "bf16"  # by the assumed speeds, since tiny networks are none of the table's
    assert found[-1]["batch.micro"] in (16, 32)
    assert (found[-1]["launch.per_gpu"], found[-1]["launch.per_process"]) == (1, 2)  # the better one


def test_a_failed_smoke_run_ends_it_with_the_trace(
    checked: Check, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(config: object) -> None:
        raise RuntimeError("an illegal memory access was encountered")

    monkeypatch.setattr(check, "run", fails)
    monkeypatch.setattr(checked, "parts", lambda: pytest.fail("timed after a failure"))
    assert checked.main() == 1
    assert [line["what"] for line in lines(checked.out)] == ["environment", "smoke"]
    assert "in fails" in lines(checked.out)[-1]["failed"]
    assert "an illegal memory access was encountered" in capsys.readouterr().err


def test_a_smoke_run_that_is_not_resumed_fails(checked: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "METHODS", ("vanilla",))
    real = check.run
    monkeypatch.setattr(check, "run", lambda config: None if config.train.stop_after else real(config))
    assert checked.main() == 1
    assert "was not stopped" in lines(checked.out)[-1]["failed"]


def test_a_step_that_outlasts_its_box_is_left_out(checked: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(plan: Plan) -> Any:
        yield Line(11, "first", "")
        while True:
            torch.zeros(1)

    monkeypatch.setitem(BOXES, "steps", 0.02)
    checked._within("steps", slow)
    assert [line["what"] for line in lines(checked.out)] == ["first", "the rest of steps"]
    assert "left out: the 0.2 s of steps have passed" in lines(checked.out)[-1]["note"]


def test_its_steps_are_the_dry_runs_speeds(checked: Check) -> None:
    checked.write("environment", device="Card 1", threads=2)
    name = "precision bf16, VGG, CIFAR-10, B = 1024"
    checked._add(Line(10, name, "", "images/s", spread([2048.0]), note="graph bf16, passes of 1024"))
    checked._add(Line(10, "the rest of steps", "", note="left out"))
    throughput.of_bench.cache_clear()
    assert throughput.of_bench(checked.out.parent, "Card 1") == [("vgg_cifar10", 1024, "bf16", 2, 0.5)]
    throughput.of_bench.cache_clear()


def test_the_command_without_a_gpu_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_check.main(["--device", "cpu"]) == 1
    assert "there is no GPU here" in capsys.readouterr().err


def test_packing_takes_some_settings_and_counts(checked: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "_launch", lambda plan: type("Worker", (), {"kill": int, "wait": int})())
    monkeypatch.setattr(
        packing, "_setting", lambda plan, workers, counts, *rest: iter([(len(workers), counts, rest[-1])])
    )
    *turns, packed = packing.packing(checked.plan, ["vgg_cifar10"], most=2)
    assert packed == (2, [1, 2], "vgg_cifar10")
    assert [line.what[:10] for line in turns] == ["1 in turns", "2 in turns"]
    assert all(line.ours is not None and line.ours.median > 0 for line in turns)
    assert turns[0].figure == spread([1.0])
    assert StandIn.counts["captures"] == 3
    assert all(StandIn.counts[f"replays on stream {n}"] > 0 for n in (1, 3, 4))  # each graph was captured on another
