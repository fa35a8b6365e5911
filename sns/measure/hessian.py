"""Largest Hessian eigenvalue of the unregularised loss (section 4.3, Figure 3)."""

import os
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sns.common import accelerator
from sns.common.memory import room_of_a_run
from sns.common.precision import full_precision
from sns.common.seed import generator
from sns.config.schema import MeasureConfig
from sns.linalg.hessian import HessianResult, top_eigenvalue
from sns.measure.evaluation import probe_indices
from sns.measure.state import unchanged

# Of the free memory, for graphs kept between products, by Accelerator.host: as many runs as cores
# may share that of the host.
SHARE = {True: 0.5 / (os.cpu_count() or 1), False: 0.5}
MEMORY = 4  # tensors in memory for a product / for an evaluation pass of the same batch, about


def hessian_split(model: nn.Module, x: Tensor, y: Tensor, config: MeasureConfig) -> dict[str, Any]:
    """One split's entry of `Result.hessian`: the fields of HessianResult as plain numbers.

    Computed on the `hessian_samples` images of `probe_indices`, from the same start vector in every
    run. The Lanczos fields are present only with `config.lanczos`.
    """
    chosen = probe_indices(len(x), config.hessian_samples, x.device)
    fields = asdict(hessian_eigenvalue(model, x[chosen], y[chosen], config, generator(0, "probe")))
    return {key: value for key, value in fields.items() if config.lanczos or "lanczos" not in key}


def hessian_eigenvalue(
    model: nn.Module, x: Tensor, y: Tensor, config: MeasureConfig, start: torch.Generator
) -> HessianResult:
    """Largest Hessian eigenvalue of the mean cross entropy w.r.t. all trainable parameters.

    x (N, C, H, W), y (N,). In evaluation mode (batch norm with its running statistics, no dropout),
    in the parameters' precision, without TensorFloat-32 and autocast. ValueError on empty data.
    """
    if len(x) == 0 or len(x) != len(y):
        raise ValueError(f"cannot measure on {len(x)} images and {len(y)} labels")
    batch = len(x) if config.batch_size is None else max(1, config.batch_size // MEMORY)

    def loss(images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(model(images), labels, reduction="sum")

    losses = [partial(loss, *part) for part in zip(torch.split(x, batch), torch.split(y, batch), strict=True)]
    free = room_of_a_run(x.device)

    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with unchanged(model), full_precision(x.device):
        return top_eigenvalue(
            losses,
            parameters,
            len(x),
            tolerance=config.hessian_tolerance,
            iterations=config.hessian_iterations,
            generator=start,
            lanczos=config.lanczos,
            room=0.0 if free is None else SHARE[accelerator.of(x.device).host] * free,
        )
