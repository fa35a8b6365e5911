"""Published estimates of a convolution's norm beside the exact one, on the layers of a network."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from sns.linalg.bounds import BOUNDS, ESTIMATES
from sns.linalg.conv_operator import Convolution
from sns.linalg.weights import weights_of
from sns.model.sizes import input_sizes

COLUMNS = ("network", "layer", "shape", "side", "estimate", "over_exact", "time_over_exact")
ROUNDS = 3  # alternating; the median of each is taken
ROUNDING = 1e-5  # relative: a bound below the exact norm by more is violated


def convolutions(model: nn.Module, input_shape: tuple[int, ...]) -> Iterator[tuple[str, Convolution]]:
    """Name and map of each plain convolution at stride 1 with an overlapping kernel.

    `input_shape`: (C, H, W) of the model's images. Of a 1x1 kernel the matrix is the map, so that
    every estimate is exact or a multiple of it.
    """
    sizes = input_sizes(model, input_shape)
    for weight in weights_of(model):
        size = sizes.get(weight.name.rpartition(".")[0])
        if size is None or not isinstance(weight.module, nn.Conv2d):
            continue
        operator = Convolution.of(weight.module, weight.tensor.detach(), size)
        if operator is None or operator.stride != (1, 1) or operator.groups > 1 or operator.dilation != (1, 1):
            continue
        if operator.weight.shape[2:] != (1, 1):
            yield weight.name, operator


def measure(name: str, model: nn.Module, input_shape: tuple[int, ...]) -> list[dict[str, Any]]:
    """A row COLUMNS for each of `convolutions` and each estimate."""
    return [row for layer, operator in convolutions(model, input_shape) for row in _layer(name, layer, operator)]


def _layer(network: str, layer: str, operator: Convolution) -> list[dict[str, Any]]:
    estimates: dict[str, Callable[[], float]] = {"exact": operator.norm}
    for name, function in ESTIMATES.items():
        estimates[name] = lambda function=function: function(operator.weight, operator.input_size)  # type: ignore[misc]
    values, taken = {}, {name: list[float]() for name in estimates}
    for _ in range(ROUNDS):
        for name, estimate in estimates.items():
            began = time.perf_counter()
            values[name] = estimate()
            taken[name].append(time.perf_counter() - began)
    seconds = {name: statistics.median(times) for name, times in taken.items()}
    shape = "x".join(map(str, operator.weight.shape))
    place = {"network": network, "layer": layer, "shape": shape, "side": operator.input_size[0]}
    return [
        {
            **place,
            "estimate": name,
            "over_exact": values[name] / values["exact"],
            "time_over_exact": seconds[name] / seconds["exact"],
        }
        for name in ESTIMATES
    ]


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line for each estimate over all layers, in Markdown: value and time over those of the exact
    norm, least, median and largest, and how many layers have a larger norm than it says."""
    lines = [
        "| estimate | value: least | median | largest | below the norm | time: median |",
        "|---|---|---|---|---|---|",
    ]
    for name in ESTIMATES:
        own = [row for row in rows if row["estimate"] == name]
        values = [row["over_exact"] for row in own]
        low = sum(value < 1 - ROUNDING for value in values)
        label = f"{name} (bound)" if name in BOUNDS else name
        middle, pace = statistics.median(values), statistics.median(row["time_over_exact"] for row in own)
        lines.append(
            f"| {label} | {min(values):.3f} | {middle:.3f} | {max(values):.3f} | {low} of {len(own)} | {pace:.2f} |"
        )
    return "\n".join(lines) + "\n"
