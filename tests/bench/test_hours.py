"""The table of GPU-hours: the dry run's own estimate, and what each step of the design changes."""

import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest
import torch
from conftest import ROOT
from torch import nn

from bench import hours
from bench.hours import BF16, COMPILED, ONCE, Design, compiled_bytes, eager_bytes
from sns.config.schema import Config
from sns.launch import estimate, work
from sns.launch.sweep import dry_run
from sns.launch.throughput import Machine
from sns.train.device import _has_compiler


def cells(*words: str) -> list[Config]:
    return [run.config for run in dry_run(["experiment=table1", *words])[0]]


def test_the_guide_has_the_table() -> None:
    """Printed by a new process, as for the guide: other tests count networks in this one."""
    command = [sys.executable, "-m", "bench.hours"]
    printed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert printed.strip() in (ROOT / "docs/gpu.md").read_text()


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_a_plain_design_is_the_estimate_of_the_dry_run(precision: str) -> None:
    runs = cells("setting=nin_cifar100")
    at = [replace(run, train=replace(run.train, precision=precision)) for run in runs]
    expected = sum(estimate._scaled(run, Machine("NVIDIA H100", False), [], "", Counter()) for run in at)
    assert sum(hours.hours(runs, Design("plain", precision))) * 3600 == pytest.approx(expected)


def test_each_step_changes_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hours, "FUSED", {"densenet40_cifar100": (0.75, 0.5)})
    small, large = (cells("setting=densenet40_cifar100", "method=vanilla", f"batch={b}") for b in ("small", "large"))
    for runs in (small, large):
        (plain, measured), moved = hours.hours(runs, BF16), work.training(runs[0]).bytes / hours.CARD.bytes["bf16"]
        for design, share in ((COMPILED, 0.75), (ONCE, 0.5)):
            trained = hours.hours(runs, design)[0]
            assert (plain - trained) * 3600 == pytest.approx((1 - share) * moved)
        assert hours.hours(runs, replace(BF16, measuring="bf16"))[0] == plain
        assert hours.hours(runs, replace(BF16, measuring="bf16"))[1] < measured
    together = replace(BF16, together=2)
    launches = work.training(small[0]).calls * hours.CARD.call / 3600
    assert hours.hours(small, BF16)[0] - hours.hours(small, together)[0] == pytest.approx(launches / 2)
    assert hours.hours(large, BF16) == hours.hours(large, together)


@pytest.mark.skipif(not _has_compiler(), reason="needs a C++ compiler")
def test_inductor_moves_less_for_a_chain_of_activations() -> None:
    chain = nn.Sequential(*[nn.Tanh() for _ in range(4)], nn.Flatten())
    x = torch.randn(4, 3, 8, 8, requires_grad=True)
    assert 2 * x.numel() * 4 <= compiled_bytes(chain, x) < eager_bytes(chain, x) / 2
