"""How many images one pass through the network takes, chosen by the memory of the device."""

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sns.common import accelerator
from sns.common.memory import GB, room_of_a_run
from sns.config.schema import BatchConfig

SHARE = 0.8  # of the free memory that a pass may fill
BF16 = 0.6  # bytes saved under bf16 autocast, relative to fp32: activations halve, masks and some copies do not
MEASURING = {True: 1e9, False: 16e9}  # by Accelerator.host: bytes of an evaluation pass that load the device
MOST = 1_000  # images of such a pass
PROBE = 2  # images of the counting pass; bytes grow in proportion to images


def saved_bytes(model: nn.Module, channels: int, side: int, classes: int, precision: str = "fp32") -> float:
    """Bytes that the forward pass of one image (channels, side, side) saves for the backward pass.

    They are counted in one small pass in training mode through a copy of the model. The model and
    the random generators do not change.
    """
    device = next(model.parameters()).device
    shadow = copy.deepcopy(model).train()
    own = {id(p) for p in shadow.parameters()}
    seen: dict[int, tuple[Tensor, int]] = {}  # holds the tensors too, so that no address is used twice

    def count(tensor: Tensor) -> Tensor:
        if id(tensor) not in own and tensor.shape[:1] == (PROBE,):
            storage = tensor.untyped_storage()
            seen[storage.data_ptr()] = (tensor, storage.nbytes())
        return tensor

    x = torch.zeros(PROBE, channels, side, side, device=device)
    with accelerator.forked_rng([device]), torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        F.cross_entropy(shadow(x), torch.zeros(PROBE, dtype=torch.int64, device=device))
    return sum(size for _, size in seen.values()) / PROBE * (BF16 if precision == "bf16" else 1.0)


def choose(batch: BatchConfig, per_image: float, device: torch.device) -> tuple[int, str | None]:
    """Images a pass, and one sentence if they are fewer than asked for, else None.

    These are `batch.micro` images, or the whole batch, if about `per_image` bytes an image fit the
    free memory of `device`. Otherwise it is the largest multiple of `batch.ghost` that divides B
    and fits: batch-norm statistics stay the same. A batch without ghost groups is never split.
    """
    asked = min(batch.micro or batch.size, batch.size)
    free = room_of_a_run(device)
    if free is None or asked * per_image <= SHARE * free or batch.ghost is None or batch.ghost >= batch.size:
        return asked, None
    groups = batch.size // batch.ghost
    fitting = [n * batch.ghost for n in range(1, groups + 1) if groups % n == 0 and n * batch.ghost <= asked]
    small_enough = [size for size in fitting if size * per_image <= SHARE * free]
    size = max(small_enough) if small_enough else min(fitting)
    if size == asked:
        return asked, None
    need, room = asked * per_image / GB, free / GB
    return size, (
        f"a pass of {asked} images needs about {need:.3g} GB of {device} memory and {room:.3g} GB are free: "
        f"{math.ceil(batch.size / size)} passes of {size} images an update"
    )


def choose_measuring(asked: int | None, per_image: float, device: torch.device) -> tuple[int, str | None]:
    """Images an evaluation pass, and one sentence if they are fewer than asked for, else None.

    These are `asked` images, or a default for the device, halved until they fit the free memory.
    """
    first = max(1, min(MOST, int(MEASURING[accelerator.of(device).host] / per_image))) if asked is None else asked
    free = room_of_a_run(device)
    size = first
    while free is not None and size > 1 and size * per_image > SHARE * free:
        size //= 2
    if size == first:
        return size, None
    return size, f"measuring {first} images at once does not fit the free memory of {device}: {size} a pass"
