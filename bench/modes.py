"""Row 10, one process: modes, precisions and pass sizes of a training step on a GPU."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import product

from bench.cells import NETWORKS, Plan, cell, update
from bench.guard import guarded
from bench.line import Line
from bench.timing import paired, spread
from sns.common import accelerator

ROW = 10
PRECISIONS = ("fp32", "tf32", "bf16")
Rates = dict[tuple[str, str, str], float]


def modes(plan: Plan) -> Iterator[Line]:
    """Eager and captured steps of all networks, then compiled ones, a minute each."""
    names = ("eager", "graph") if plan.tiny else ("eager", "graph", "compile")
    cases = [(f"mode {name}", f"train.mode={name}") for name in names]
    yield from _compare(plan, cases, plan.batches())


def precisions(plan: Plan, rates: Rates) -> Iterator[Line]:
    """fp32, TensorFloat-32 and bfloat16, each in its memory format under `auto`. Fills `rates`."""
    cases = [(f"precision {name}", f"train.precision={name}") for name in PRECISIONS]
    yield from _compare(plan, cases, plan.batches(), rates)


def pass_sizes(plan: Plan) -> Iterator[Line]:
    """A large batch in passes: one ghost batch each, a middle size, all at once."""
    sizes = (16, 32) if plan.tiny else (256, 1_024, 4_096)
    yield from _compare(plan, [(f"passes of {size}", f"batch.micro={size}") for size in sizes], ["large"])


def _compare(
    plan: Plan, cases: list[tuple[str, str]], regimes: list[str], rates: Rates | None = None
) -> Iterator[Line]:
    each = replace(plan, budget=plan.budget / len(NETWORKS) / len(regimes) / len(cases))
    for (label, override), setting, regime in product(cases, NETWORKS, regimes):
        what = f"{label}, {NETWORKS[setting][0]}, {regime} batch"
        for line in guarded(plan, ROW, what, partial(step, each, setting, regime, label, override)):
            if rates is not None and line.ours is not None:
                rates[setting, regime, label.split()[-1]] = line.ours.median
            yield line


def step(plan: Plan, setting: str, regime: str, label: str, *overrides: str) -> Iterator[Line]:
    """Images a second of a vanilla update."""
    session = cell(plan, setting, f"batch={regime}", *overrides)
    taken = paired({"ours": update(session)}, plan.device, plan.budget, rounds=5)["ours"]
    peak = (accelerator.of(plan.device).peak_bytes() or 0.0) / 1e9
    what = f"{label}, {NETWORKS[setting][0]}{' (tiny)' if plan.tiny else ''}, B = {session.config.batch.size}"
    note = f"{session.mode} {session.config.train.precision}, passes of {session.task.sizes.train}, peak {peak:.3g} GB"
    rates = spread([session.config.batch.size / seconds for seconds in taken])
    yield Line(ROW, what, "", "images/s", rates, note=note)
