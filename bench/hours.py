"""GPU-hours of the paper's table on an H100, by the cost model of the dry run: an estimate.

python -m bench.hours          # the table of docs/gpu.md
python -m bench.hours --count  # FUSED: minutes on a CPU, with a C++ compiler
"""

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn import functional as F

from bench.roofline import Traffic
from sns.config.schema import Config
from sns.launch import work
from sns.launch.estimate import measuring_seconds
from sns.launch.sweep import dry_run
from sns.launch.throughput import CARDS

CARD = CARDS["H100"]
LIMIT = 3.0  # GPU-hours
MOST = 0.7e9  # bytes of the forward pass that --count compiles
TOGETHER = 4  # runs of B = 64 at a time
# Bytes of a compiled forward and backward pass over those of an eager one, as --count gives them
# (torch 2.15, on a CPU): model.statistics=each, once.
FUSED: dict[str, tuple[float, float]] = {
    "vgg_cifar10": (0.773, 0.773),
    "nin_cifar100": (0.956, 0.956),
    "densenet40_cifar100": (0.792, 0.762),
    "densenet22_stl10": (0.898, 0.836),
}


@dataclass(frozen=True)
class Design:
    """How the 32 cells would run."""

    name: str
    precision: str = "bf16"
    compiled: bool = False
    once: bool = False  # model.statistics=once
    together: int = 1  # runs of the small batch at a time: they share the time of kernel launches
    measuring: str = "fp32"


BF16 = Design("bf16")
COMPILED = replace(BF16, name="bf16, compiled", compiled=True)
ONCE = replace(COMPILED, name="and model.statistics=once", once=True)
STREAMS = replace(ONCE, name=f"and {TOGETHER} runs of B = 64 at a time", together=TOGETHER)
DESIGNS = (
    Design("fp32", "fp32"),
    Design("tf32", "tf32"),
    BF16,
    COMPILED,
    ONCE,
    STREAMS,
    replace(STREAMS, name="and measure.precision=bf16", measuring="bf16"),
)


def hours(configs: Sequence[Config], design: Design) -> tuple[float, float]:
    """Hours of training and of measuring, one seed of every cell."""
    training = measuring = 0.0
    for config in configs:
        done = work.training(config)
        share = FUSED[config.setting][design.once] if design.compiled else 1.0
        together = design.together if config.batch.regime == "small" else 1
        shared = replace(done, bytes=share * done.bytes, calls=done.calls / together)
        training += CARD.seconds(shared, design.precision)
        train, measure = replace(config.train, precision=design.precision), config.measure
        asked = replace(config, train=train, measure=replace(measure, precision=design.measuring))
        measuring += measuring_seconds(asked, CARD, host=False)
    return training / 3600, measuring / 3600


def table() -> str:
    """The hours of each design in Markdown, the assumptions, and whether LIMIT is reached."""
    configs = [run.config for run in dry_run(["experiment=table1"])[0]]
    rows = [(design.name, *hours(configs, design)) for design in DESIGNS]
    lines = ["| design | training | measuring | H100-hours |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {trained:.1f} | {measured:.1f} | {trained + measured:.1f} |" for name, trained, measured in rows
    ]
    rates = "; ".join(
        f"{CARD.flops[p] / 1e12:.0f} TFLOP/s and {CARD.bytes[p] / 1e12:.1f} TB/s in {p}" for p in CARD.flops
    )
    least = sum(rows[-1][1:])
    verdict = "reaches" if least <= LIMIT else "does not reach"
    text = (
        f"An estimate, not measured. Assumed: {rates} (bytes counted as of fp32); {CARD.call * 1e6:.0f} us a kernel; "
        f"compiled passes move the bytes that inductor counts; runs at a time share the time of launches alone. "
        f"By this model the last design {verdict} {LIMIT:g} hours."
    )
    return "\n".join([*lines, "", *_wrapped(text)])


def _wrapped(text: str, width: int = 100) -> Iterator[str]:
    line = ""
    for word in text.split():
        if len(line) + len(word) >= width:
            yield line
            line = ""
        line = f"{line} {word}" if line else word
    yield line


def eager_bytes(net: nn.Module, x: torch.Tensor) -> int:
    """Bytes of a forward and backward pass, as if every operator read and wrote memory."""
    with Traffic() as traffic:
        _pass(net, x)
    return int(traffic.bytes)


def compiled_bytes(net: nn.Module, x: torch.Tensor) -> int:
    """Likewise of the kernels that inductor makes, by its own count."""
    from torch._inductor import metrics
    from torch._inductor.compile_fx import inductor_metrics_log

    inductor_metrics_log.setLevel(logging.INFO)  # else inductor does not count
    torch._dynamo.reset()
    metrics.reset()
    with torch._inductor.config.patch(force_disable_caches=True):
        _pass(torch.compile(net, dynamic=False, options={"fallback_random": True}), x)
    return int(metrics.num_bytes_accessed)


def _pass(net: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> None:
    F.cross_entropy(net(x), torch.zeros(len(x), dtype=torch.int64)).backward()


def count() -> None:
    """Prints FUSED, from passes of B = 64 images, or of fewer where memory is short."""
    for setting in FUSED:
        config = dry_run([f"setting={setting}", "seed=0"])[0][0].config
        *_, channels, side, _ = work.images(config)
        images = min(config.batch.size, int(MOST / work.network(config).image.bytes))
        x = torch.randn(images, channels, side, side).contiguous(memory_format=torch.channels_last)
        usual = work.build(config).to(memory_format=torch.channels_last)
        shares = [compiled_bytes(usual, x) / eager_bytes(usual, x)]
        if hasattr(config.model, "statistics"):
            once = work.build(replace(config, model=replace(config.model, statistics="once")))
            shares.append(compiled_bytes(once.to(memory_format=torch.channels_last), x) / eager_bytes(usual, x))
        print(f'    "{setting}": ({shares[0]:.3f}, {shares[-1]:.3f}),', flush=True)


if __name__ == "__main__":
    if "--count" in sys.argv:
        count()
    else:
        print(table())
