"""Row 10, one process: modes, precisions and pass sizes of a training step on a GPU."""

import gc
from collections.abc import Iterator

import torch

from bench.cells import NETWORKS, Plan, cell, update
from bench.line import Line
from bench.timing import Spread, paired, spread
from sns.errors import UserError
from sns.train.session import Session

ROW = 10


def modes(plan: Plan) -> Iterator[Line]:
    """Eager, compiled and captured steps."""
    names = ("eager", "graph", "compile") if plan.device.type == "cuda" else ("eager",)
    cases = [(name, [f"train.mode={name}"]) for name in names]
    yield from _compare(plan, "mode", cases, sorted(NETWORKS), ["small", "large"])


def precisions(plan: Plan) -> Iterator[Line]:
    """fp32 proper, TensorFloat-32 and bfloat16, each in the memory format that `auto` gives it."""
    cases = [(name, [f"train.precision={name}"]) for name in ("fp32", "tf32", "bf16")]
    yield from _compare(plan, "precision", cases, sorted(NETWORKS), ["small", "large"])


def pass_sizes(plan: Plan) -> Iterator[Line]:
    """How B = 4096 is cut into passes, from one ghost batch to all at once."""
    for setting in NETWORKS:
        ghost = cell(plan, setting, "batch=large").config.batch
        assert ghost.ghost is not None
        sizes = [ghost.ghost * 2**k for k in range(8) if ghost.ghost * 2**k <= ghost.size]
        picked = sorted({sizes[0], sizes[len(sizes) // 2], sizes[-1]})
        cases = [(f"passes of {size}", [f"batch.micro={size}"]) for size in picked]
        yield from _compare(plan, "pass size", cases, [setting], ["large"], networks=len(NETWORKS))


def _compare(
    plan: Plan,
    kind: str,
    cases: list[tuple[str, list[str]]],
    settings: list[str],
    regimes: list[str],
    networks: int | None = None,
) -> Iterator[Line]:
    """A line a case: images a second and peak memory; cases of one network alternate unless memory forbids it."""
    each = plan.budget / (networks or len(settings)) / len(regimes) / len(cases)
    for setting in settings:
        for regime in regimes:
            for name, overrides in cases:
                yield _one(plan, setting, regime, f"{kind}: {name}", overrides, each)


def _one(plan: Plan, setting: str, regime: str, label: str, overrides: list[str], budget: float) -> Line:
    label_of = f"{NETWORKS[setting][0]}{' (tiny)' if plan.tiny else ''}"
    release(plan)
    try:
        session = cell(plan, setting, f"batch={regime}", *overrides)
        what = f"{label}, {label_of}, B = {session.config.batch.size}"
        rates, memory = throughput(plan, session, budget)
    except (torch.OutOfMemoryError, UserError, RuntimeError) as error:
        message = str(error).splitlines()[0][:120]
        return Line(ROW, f"{label}, {label_of}, batch={regime}", "", note=f"failed: {message}")
    note = f"{session.mode} {session.config.train.precision}, passes of {session.pass_size}, peak {memory:.3g} GB"
    return Line(ROW, what, "", "images/s", rates, note=note)


def throughput(plan: Plan, session: Session, budget: float) -> tuple[Spread, float]:
    """Images a second of vanilla updates, and the peak of allocated device memory in GB (0 on a CPU)."""
    taken = paired({"ours": update(session)}, plan.device, budget, rounds=5)["ours"]
    peak = torch.cuda.max_memory_allocated(plan.device) / 1e9 if plan.device.type == "cuda" else 0.0
    return spread([session.config.batch.size / seconds for seconds in taken]), peak


def release(plan: Plan) -> None:
    """Returns what earlier cases held, so that the next one's peak is its own."""
    gc.collect()
    if plan.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(plan.device)
