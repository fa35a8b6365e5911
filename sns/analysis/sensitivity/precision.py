"""Whether bf16 may train the paper's settings: the rule of
configs/experiment/sensitivity/precision.yaml, applied."""

from collections.abc import Iterator, Mapping
from typing import Any

from sns.analysis.sensitivity.studies import Place, Runs
from sns.analysis.stats import Summary, paired
from sns.record.store import Record

LIMITS = {"test_accuracy": 0.01, "gap": 0.01, "effect": 0.015}  # on the ends of the 95% interval, from the rule
WORDS = {
    "test_accuracy": "test accuracy",
    "gap": "gap",
    "effect": "test accuracy of spectral less vanilla",
}
Cells = Mapping[Place, Mapping[Any, Runs]]


def judge(cells: Cells, planned: int) -> list[str]:
    """A line for each part of the rule, and its result. `planned`: the pairs of runs it needs."""
    pairs = {(*place, seed): (fp32, bf16) for place, seed, fp32, bf16 in _pairs(cells)}
    if len(pairs) < planned:
        return [f"Rule: not yet decided, {len(pairs)} of {planned} pairs of runs are complete."]
    diverged = [bf16.result.run_id for fp32, bf16 in pairs.values() if _bad(bf16) and not _bad(fp32)]
    lines = [f"1. Runs that diverge in bf16 alone: {len(diverged)} of {len(pairs)}."]
    done = {key: pair for key, pair in pairs.items() if not any(map(_bad, pair))}
    shifts = {name: _shift(done, name) for name in ("test_accuracy", "gap")} | {"effect": _effect(done)}
    within = [not diverged]
    for name, shift in shifts.items():
        inside = shift.low is not None and shift.high is not None and max(-shift.low, shift.high) <= LIMITS[name]
        within.append(inside)
        lines.append(f"{len(within)}. {WORDS[name].capitalize()}: {_points(shift)}; limit ±{100 * LIMITS[name]:g}.")
    choice = "bf16" if all(within) else "tf32"
    return [*lines, "", f"So the paper's settings train in **{choice}** on a GPU."]


def _pairs(cells: Cells) -> Iterator[tuple[Place, int, Record, Record]]:
    for place, by_value in cells.items():
        fp32, bf16 = by_value.get("fp32", {}), by_value.get("bf16", {})
        yield from ((place, seed, fp32[seed], bf16[seed]) for seed in sorted(fp32.keys() & bf16.keys()))


def _bad(record: Record) -> bool:
    return record.result.status != "ok"


def _shift(pairs: Mapping[Any, tuple[Record, Record]], name: str) -> Summary:
    """bf16 - fp32 over all pairs."""
    fp32, bf16 = ({key: pair[i].result.final[name] for key, pair in pairs.items()} for i in (0, 1))
    return paired(bf16, fp32)


def _effect(pairs: Mapping[Any, tuple[Record, Record]]) -> Summary:
    """The same of spectral less vanilla, over settings, batches and seeds."""
    effects: list[dict[Any, float]] = [{}, {}]
    for (setting, regime, methods, seed), pair in pairs.items():
        other = pairs.get((setting, regime, ("vanilla",), seed))
        if methods == ("spectral",) and other is not None:
            for effect, own, plain in zip(effects, pair, other, strict=True):
                effect[setting, regime, seed] = own.result.final["test_accuracy"] - plain.result.final["test_accuracy"]
    return paired(effects[1], effects[0])


def _points(shift: Summary) -> str:
    if shift.mean is None or shift.low is None or shift.high is None:
        return "too few pairs"
    low, mean, high = (100 * value for value in (shift.low, shift.mean, shift.high))
    return f"bf16 less fp32 {mean:+.2f} points, 95% interval [{low:+.2f}, {high:+.2f}], {shift.n} pairs"
