"""The benchmarks compare equal work, every row runs, and the page shows the results.

No test judges a time.
"""

import io
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from stand_in import StandIn
from torch import Tensor, nn
from torch.testing import assert_close

from bench import projection, run, schedule
from bench.cells import NETWORKS, ROOT, Plan, batch_of, cell, floor, mean_loss, update
from bench.epochs import Script
from bench.line import FASTER, TIMES, Line, faster, times
from bench.methods import CLASSIFIER_METHODS
from bench.packing import main as packed
from bench.peers import fourier_operator_norm, fresh_iterations_penalty, normalize_spectrally, svd_penalty, three_passes
from bench.pipeline import Pictures, chain, pictures
from bench.projection import Hours, projection_at
from bench.render import _tabled, headline, render
from bench.roofline import Traffic, work_of_a_step
from bench.timing import Spread, paired, spread
from sns.analysis.bakeoff.costs import costs
from sns.analysis.sngan import table
from sns.analysis.sngan.runs import METHODS as GAN_METHODS
from sns.data.augment import window
from sns.data.gcn import global_contrast_normalize
from sns.linalg.circular import circular_operator_norm
from sns.linalg.weights import weight_parameters
from sns.measure import hessian
from sns.task.classification import Classification
from sns.train.device import choose_device
from sns.train.session import Session

CPU = torch.device("cpu")


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return Plan(CPU, tmp_path, tiny=True, budget=0.01)


@pytest.fixture
def on_gpu(tmp_path: Path, stand_in: type[StandIn]) -> Plan:
    """The GPU's version of the rows, on a stand-in for one."""
    return Plan(choose_device("cuda"), tmp_path, tiny=True, budget=2.0)


def without_dropout(session: Session) -> Session:
    for module in session.task.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return session


def gradients(model: nn.Module, work: Callable[[], object]) -> list[Tensor]:
    """The gradients that `work` adds to every `.grad`."""
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    work()
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


def test_penalties_have_the_same_gradient(plan: Plan) -> None:
    session = cell(plan, "vgg_cifar10", "method=spectral", "method.n_iterations=100", "method.factor=0.7")
    model = session.task.model
    for weight in weight_parameters(model):  # one separate singular value, for fast convergence
        weight.data += 3 * torch.linalg.vector_norm(weight.data) / weight.numel() ** 0.5
    values: list[Tensor | None] = []
    ours = gradients(model, lambda: values.append(session.task.method.regularize()))
    for peer in (svd_penalty, lambda model, factor: fresh_iterations_penalty(model, factor, 100)):
        theirs = gradients(model, lambda peer=peer: values.append(peer(model, 0.7)))
        assert_close(theirs, ours, rtol=1e-3, atol=1e-4)
    assert_close(values[1:], [values[0]] * 2, rtol=1e-4, atol=0)


def test_normalized_layers_have_norm_one(plan: Plan) -> None:
    model = normalize_spectrally(cell(plan, "vgg_cifar10").task.model)
    layers = [module for module in model.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    assert len(layers) > 4
    for layer in layers:
        norm = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2).item()
        assert 0.8 < norm < 1.5  # after torch's fifteen iterations


@pytest.mark.parametrize("whole", [True, False])
def test_three_passes_give_the_adversarial_gradient(plan: Plan, whole: bool) -> None:
    session = without_dropout(cell(plan, "vgg_cifar10", "method=adversarial"))
    x, y = batch_of(session)
    ours = gradients(session.task.model, lambda: session.task.method.backward(partial(session.task.risk, y), x, 0.5))
    loss = mean_loss(session)
    theirs = gradients(session.task.model, lambda: three_passes(session.task.model, loss, x, y, share=0.5, whole=whole))
    assert_close(theirs, ours, rtol=1e-4, atol=1e-6)
    assert any(gradient.abs().max() > 1e-3 for gradient in ours)


def test_floor_and_script_make_the_same_update_as_ours(plan: Plan) -> None:
    first, *others = (without_dropout(cell(plan, "vgg_cifar10", train=10, test=10)) for _ in range(3))
    before = [parameter.detach().clone() for parameter in first.task.model.parameters()]
    update(first)()
    index = first.task.index
    x, y = first.task.dataset.train.x[index], first.task.dataset.train.y[index]
    bare, script = others
    object.__setattr__(bare.task.dataset, "train", type(bare.task.dataset.train)(x, y))
    floor(bare)()
    Script(plan, script, 1, 0).update(x, y)
    after = list(first.task.model.parameters())
    for other in others:
        assert_close(list(other.task.model.parameters()), after, rtol=1e-4, atol=1e-6)
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_transforms_give_the_images_that_ours_gives() -> None:
    data, targets = pictures(6, 8, 3)
    ours = global_contrast_normalize(torch.from_numpy(data.transpose(0, 3, 1, 2).copy()), "std")
    plain = Pictures(data, targets, chain(8, 0, False))
    assert_close(torch.stack([plain[i][0] for i in range(6)]), ours, rtol=1e-5, atol=1e-5)
    assert [plain[i][1] for i in range(6)] == targets == [0, 1, 2, 0, 1, 2]
    moved = Pictures(data, targets, chain(8, 1, True))
    seen = set()
    every = [torch.tensor([v]) for v in range(3)], [torch.tensor([v]) for v in range(3)]
    windows = [window(ours[:1], 1, t, c, torch.tensor([m])) for t, c, m in itertools.product(*every, (False, True))]
    for _ in range(60):
        image = moved[0][0]
        matches = [i for i, one in enumerate(windows) if torch.allclose(one[0], image, atol=1e-5)]
        assert len(matches) == 1
        seen.update(matches)
    assert len(seen) > 9  # of 18


def test_fourier_norm_is_the_circular_one() -> None:
    weight = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    assert fourier_operator_norm(weight, (6, 6)) == pytest.approx(circular_operator_norm(weight, (6, 6)), rel=1e-9)


def test_work_of_a_step_counts_operations_and_bytes(plan: Plan) -> None:
    a = torch.ones(10)
    with Traffic() as traffic:
        (a + a).view(2, 5)
    assert traffic.bytes == 3 * 40
    session = cell(plan, "vgg_cifar10")
    side, operations = 8, 0.0
    for layer in session.task.model.modules():
        if isinstance(layer, nn.Conv2d):
            first = layer.in_channels == 3
            operations += 2 * layer.weight.numel() * side * side * (2 if first else 3)  # the image needs no gradient
        elif isinstance(layer, nn.Linear):
            operations += 6 * layer.weight.numel()
        elif isinstance(layer, nn.MaxPool2d):
            side //= 2
    flops, moved = work_of_a_step(session, 4)
    assert flops == operations
    assert moved > 0


def test_candidates_alternate_and_the_order_turns() -> None:
    calls: list[str] = []
    works = {name: (lambda name=name: calls.append(name) or torch.zeros(300_000).sort()) for name in "ab"}
    taken = paired(works, CPU, budget=60, rounds=3, warm_up=1)
    assert {name: len(values) for name, values in taken.items()} == {"a": 3, "b": 3}
    blocks = "".join(name for name, _ in itertools.groupby(calls))
    assert blocks == "ab" + "a" + "b" + "a" + "b"  # warm-up ab, then ab, ba, ab: neighbours of one name fuse


def test_a_spent_budget_ends_the_rounds() -> None:
    assert len(paired({"a": lambda: None}, CPU, budget=0.0, rounds=50)["a"]) == 1


@pytest.mark.parametrize(
    ("each", "budget", "warm_ups", "timed"),
    [(1 / 64, 60.0, 6, 2), (2.0, 60.0, 2, 1), (1 / 64, 0.0, 1, 1)],  # short calls are timed in blocks of .02 s
)
def test_slow_steps_and_a_spent_budget_shorten_the_warm_up(
    each: float, budget: float, warm_ups: int, timed: int, on_gpu: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first call compiles: it is no slow step and does not count against the budget."""
    now, calls = [0.0], []
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def work() -> None:
        now[0] += each if calls else 9.0
        calls.append(now[0])

    assert paired({"a": work}, on_gpu.device, budget, rounds=1)["a"] == [pytest.approx(each)]
    assert len(calls) == warm_ups + timed


def test_evaluations_are_timed_at_the_precision_of_the_run(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """cuDNN allows TensorFloat-32 by default; with it the hours of fp32 would come out too low."""
    allowed: list[bool] = []

    def measured(*_: object) -> None:
        allowed.append(torch.backends.cudnn.allow_tf32)

    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr(projection, "evaluate", measured)
    projection._evaluation(plan, "vgg_cifar10", 64, 32)
    assert allowed == [False] * 4
    for owner, name in ((Session, "evaluate"), (schedule, "jacobian_norms"), (Classification, "_spectra")):
        monkeypatch.setattr(owner, name, measured)
    monkeypatch.setattr(hessian, "hessian_eigenvalue", lambda *_: SimpleNamespace(iterations=1, seen=measured()))
    monkeypatch.setattr(schedule, "_products", lambda *_: 1)
    list(schedule._schedule(plan, "vgg_cifar10", "small"))
    assert len(allowed) > 8
    assert not any(allowed)


def test_no_case_begins_after_the_time_of_its_row(plan: Plan) -> None:
    lines = list(run.ROWS[5][0](replace(plan, ends=time.monotonic() - 1)))
    assert len(lines) == len(NETWORKS)
    assert {line.note for line in lines} == {"left out: the time of the row has passed"}


def test_rows_share_the_time_that_is_left(clock: list[float], plan: Plan) -> None:
    whole = replace(plan, tiny=False, ends=clock[0] + 100)
    first = whole.share(3, 10)
    assert (first.budget, first.ends) == (30, clock[0] + 30)
    clock[0] += 10  # 20 seconds earlier than expected
    second = whole.share(2, 7)
    assert (second.budget, second.ends) == (pytest.approx(90 * 2 / 7), pytest.approx(clock[0] + 90 * 2 / 7))
    clock[0] += 200
    assert whole.share(1, 5).budget == 0


def test_a_target_is_a_bound_in_the_right_direction() -> None:
    line = faster(1, "a", "b", [1.0, 1.0, 2.0], [10.0, 11.0, 60.0], target=11.0)
    assert line.figure == Spread(11.0, 10.0, 30.0, 3)
    assert line.hit is True
    assert replace(line, target=11.1).hit is False
    assert replace(line, kind=TIMES, target=11.1).hit is True
    assert replace(line, target=None).hit is None
    assert headline(line) == "11x faster [10, 30]"
    assert Line.from_dict(json.loads(json.dumps(line.to_dict()))) == line


def test_projection_at_another_precision_scales_training_alone(on_gpu: Plan) -> None:
    cells = list(itertools.product(NETWORKS, ("small", "large")))
    hours = dict.fromkeys(cells, Hours(training=1.0, evaluation=0.25))
    rates = {(*place, p): rate for place in cells for p, rate in (("fp32", 100.0), ("bf16", 400.0))}
    (line,) = projection_at(on_gpu, "bf16", "fp32", hours, rates)
    assert line.ours == spread([8 * 0.5])
    assert line.hit is True
    del rates[(*cells[0], "bf16")]
    assert list(projection_at(on_gpu, "bf16", "fp32", hours, rates)) == []


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """One plain and one augmented network: `make bench` measures all."""
    for setting in ("nin_cifar100", "densenet40_cifar100"):
        monkeypatch.delitem(NETWORKS, setting)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 6, 8])
def test_rows_run(number: int, plan: Plan) -> None:
    check(number, list(run.ROWS[number][0](plan)))


@pytest.mark.usefixtures("few")
@pytest.mark.filterwarnings("ignore:'pin_memory'")
@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 8, 12])
def test_rows_run_on_a_gpu(number: int, on_gpu: Plan) -> None:
    lines = list(run.ROWS[number][0](on_gpu))
    check(number, lines)
    if number != 3:
        assert StandIn.counts["replays"] > 0
        assert sum(line.what.endswith("B = 32") for line in lines) == len(lines) // 2  # the large batch too


def test_the_cost_of_every_method_is_read_by_the_table(plan: Plan, tmp_path: Path) -> None:
    lines = list(run.ROWS[12][0](plan))
    check(12, lines)
    tree = {"environment": {"device": "here"}, "rows": {"12": {"lines": [line.to_dict() for line in lines]}}}
    (tmp_path / "here.json").write_text(json.dumps(tree))
    read, others = costs({"here", "there"}, tmp_path), {*CLASSIFIER_METHODS} - {"vanilla"}
    assert read.keys() == set(itertools.product(("vgg_pocket", "nin_pocket"), (8, 32), others))
    assert sorted(cost.median for cost in read.values()) == sorted(line.figure.median for line in lines if line.figure)


def test_the_cost_of_every_method_on_a_gan_is_read_by_its_table(plan: Plan, tmp_path: Path) -> None:
    lines = list(run.ROWS[13][0](plan))
    check(13, lines)
    tree = {"environment": {"device": "here"}, "rows": {"13": {"lines": [line.to_dict() for line in lines]}}}
    (tmp_path / "here.json").write_text(json.dumps(tree))
    read = costs({"here", "there"}, tmp_path, table.ROW)
    assert read.keys() == {("sngan_pocket", 8, name) for name in GAN_METHODS if name != "vanilla"}


def check(number: int, lines: list[Line]) -> None:
    assert lines
    for line in lines:
        assert line.row == number
        assert "failed" not in line.note, line
        assert line.ours is not None or "not installed" in line.note


@pytest.mark.usefixtures("few")
def test_gpu_row_runs(on_gpu: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_processes(plan: Plan) -> Iterator[Line]:
        return iter(())

    monkeypatch.setattr("bench.gpu.packing", no_processes)
    monkeypatch.delitem(NETWORKS, "densenet22_stl10")
    lines = list(run.ROWS[10][0](on_gpu))
    check(10, lines)
    totals = [line for line in lines if "all 32 cells" in line.what]
    assert len(totals) == 3  # as configured, and scaled to the two other precisions
    assert StandIn.counts["captures"] > 0
    assert all("peak 1 GB" in line.note for line in lines if line.what.startswith("mode"))


def test_a_packed_run_answers(
    on_gpu: Plan, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("prepare vgg_cifar10\nrun 0.01\n"))
    packed(on_gpu.device_name, str(on_gpu.folder), "1")
    size, rate = capsys.readouterr().out.split()
    assert size == "8"
    assert float(rate) > 0


def test_a_failed_row_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def good(plan: Plan) -> Iterator[Line]:
        yield Line(1, "fine", "")

    def bad(plan: Plan) -> Iterator[Line]:
        raise KeyError("gone")

    monkeypatch.setattr(run, "ROWS", {5: (bad, 1, 1), 1: (good, 1, 1)})
    assert run.main(["--tiny", "--rows", "1,5"]) == 1
    out = capsys.readouterr().out
    assert "failed: KeyError" in out
    assert " 1 fine" in out


@pytest.mark.parametrize("sign", [signal.SIGALRM, signal.SIGINT, signal.SIGTERM])
def test_what_stops_the_rows_leaves_their_figures(
    sign: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def row(number: int, last: bool, plan: Plan) -> Iterator[Line]:
        yield Line(number, "first", "")
        assert json.loads(out.read_text())["rows"][str(number)]["lines"][0]["what"] == "first"
        if last:
            assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 200
            os.kill(os.getpid(), sign)
            time.sleep(600)
        yield Line(number, "second", "")

    out = tmp_path / "new" / "figures.json"
    rows = {number: (partial(row, number, number == 3), 1, 1) for number in (5, 3, 1)}
    monkeypatch.setattr(run, "ROWS", rows)
    before = [signal.getsignal(number) for number in (signal.SIGALRM, signal.SIGINT, signal.SIGTERM)]
    assert run.main(["--tiny", "--seconds", "200", "--out", str(out)]) == 0
    written = json.loads(out.read_text())["rows"]
    assert {n: [line["what"] for line in tree["lines"]] for n, tree in written.items()} == {
        "5": ["first", "second"],
        "3": ["first", "the rest of the row"],
    }
    reason = "the 200 s of --seconds have passed" if sign == signal.SIGALRM else f"{sign.name} came"
    assert written["3"]["lines"][1]["note"] == f"left out: {reason}"
    error = capsys.readouterr().err
    assert error == f"left out, because {reason}: rows 3,1. Measure them with ROWS=3,1\n"
    assert [signal.getsignal(number) for number in (signal.SIGALRM, signal.SIGINT, signal.SIGTERM)] == before


def test_a_device_that_is_not_there_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--device", "cuda:99"]) == 1
    assert capsys.readouterr().err.startswith("error: train.device=cuda:99 asks for device 99")


def test_make_passes_the_limit_and_the_file() -> None:
    command = ["make", "-n", "bench", "DEVICE=cuda", "ROWS=1,5", "SECONDS=240", "OUT=a.json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    words = " ".join(done.stdout.replace("\\\n", " ").split())
    assert "bench/run.py --device cuda --rows 1,5 --seconds 240 --out a.json" in words


def test_new_rows_replace_old_ones_and_the_page_follows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(run, "README", tmp_path / "README.md")
    figure = itertools.count(1.0)

    def row(plan: Plan) -> Iterator[Line]:
        ours = next(figure)
        yield faster(3, f"number {ours:g}", "peer", [ours], [10.0], target=5.0)

    monkeypatch.setattr(run, "ROWS", {3: (row, 1, 1), 4: (row, 1, 1)})
    assert run.main([]) == 0
    assert run.main(["--rows", "4"]) == 0
    page = (tmp_path / "README.md").read_text()
    assert "number 1, " in page
    assert "number 2, " not in page
    assert "number 3, " in page
    assert "Targets: 1 of 2 met" in page  # 10 and 10 / 3, of at least 5
    assert page == render(tmp_path / "results")
    assert [path.suffix for path in (tmp_path / "results").iterdir()] == [".json"]
    assert (
        json.loads(next((tmp_path / "results").glob("*.json")).read_text())["rows"]["3"]["lines"][0]["kind"] == FASTER
    )


def test_rows_of_methods_are_tables() -> None:
    lines = [
        times(12, f"{name} update, net, B = {size}", "vanilla update", [ours], [2.0], note="eager")
        for name, size, ours in (("sam", 8, 4.0), ("sam", 64, 5.0), ("decay", 64, 2.0))
    ]
    refused = Line(12, "decay update, net, B = 8", "vanilla update", note="failed: no")
    assert _tabled([*lines, refused]) == [
        "| method | net, B = 8 | net, B = 64 |",
        "|---|---|---|",
        "| sam | 2 | 2.5 |",
        "| decay | failed: no | 1 |",
        "| an update of vanilla | 2 s | 2 s |",
        "",
        "Times those of vanilla (eager).",
        "",
    ]


def test_the_page_is_that_of_the_results() -> None:
    assert (ROOT / "bench" / "README.md").read_text(encoding="utf-8") == render(ROOT / "bench" / "results")
