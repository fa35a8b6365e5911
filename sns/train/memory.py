"""Running out of device memory: the run resumes once with smaller passes of equal mathematics."""

import dataclasses
import gc
from types import TracebackType

import torch

from sns.common import accelerator
from sns.common.errors import UserError
from sns.common.memory import runs_together
from sns.common.ranks import Ranks
from sns.config.schema import BatchConfig, Config
from sns.task.base import Sizes


class PassSizes:
    """The pass sizes of one run: as configured, or smaller after running out of memory once."""

    def __init__(self, config: Config, ranks: Ranks) -> None:
        self.config, self.ranks = config, ranks
        self.notes: list[str] = []  # what was made smaller, for the log
        batch = config.batch
        self.chosen = Sizes(batch.micro or batch.size, config.measure.batch_size or batch.size)

    def reduce(self, error: torch.OutOfMemoryError) -> None:
        """Makes the passes of `config` smaller, of the kind in which the device ran out of memory:
        the caller tries again from the checkpoint. UserError the second time, or if several
        processes share the run, since the others would wait for ever, or beside other runs."""
        if runs_together() > 1:
            raise UserError(
                f"{self.config.run_id} does not fit the device's memory beside other runs: "
                f"lower launch.per_process={runs_together()}"
            ) from None
        fault = DoesNotFit(self.chosen, error)
        if self.ranks.world > 1 or self.notes:
            raise no_room(self.config, fault) from None
        self.config, note = smaller(self.config, fault)
        self.notes.append(note)


class DoesNotFit:
    """The pass in which the device ran out of memory: one of training, or one of `measuring`."""

    def __init__(self, sizes: Sizes, error: BaseException) -> None:
        self.pass_size, self.measure_size = sizes.train, sizes.measure
        self.measuring = _went_through(error.__traceback__, "sns.measure")


def _went_through(trace: TracebackType | None, package: str) -> bool:
    while trace is not None:
        if str(trace.tb_frame.f_globals.get("__name__")).startswith(package):
            return True
        trace = trace.tb_next
    return False


def smaller(config: Config, fault: DoesNotFit) -> tuple[Config, str]:
    """`config` with smaller passes of the kind that did not fit, and one sentence for the log.

    The run_id is the same. UserError if the passes cannot be smaller.
    """
    if fault.measuring:
        size = fault.measure_size // 2
        if size == 0:
            raise no_room(config, fault)
        measure = dataclasses.replace(config.measure, batch_size=size)
        note = f"out of device memory while measuring: measure.batch_size={size} from here on"
        return dataclasses.replace(config, measure=measure), note
    micro = half_pass(config.batch, fault.pass_size)
    if micro is None:
        raise no_room(config, fault)
    batch = dataclasses.replace(config.batch, micro=micro)
    note = f"out of device memory with passes of {fault.pass_size} images: batch.micro={micro} from here on"
    return dataclasses.replace(config, batch=batch), note


def half_pass(batch: BatchConfig, pass_size: int) -> int | None:
    """The largest pass of whole ghost groups that divides B and is at most half of `pass_size`.

    None if there is no such pass.
    """
    if batch.ghost is None or batch.ghost >= batch.size:
        return None
    sizes = range(batch.ghost, pass_size // 2 + 1, batch.ghost)
    return max((size for size in sizes if batch.size % size == 0), default=None)


def no_room(config: Config, fault: DoesNotFit) -> UserError:
    """The error for a run that does not fit at any allowed pass size."""
    if fault.measuring:
        fix = f"passes of {fault.measure_size} images (measure.batch_size) are still too large"
    elif config.batch.ghost is None or config.batch.ghost >= config.batch.size:
        fix = (
            f"its batch of {config.batch.size} shares batch-norm statistics and cannot be cut; set batch.ghost to a "
            "part of it (another run, by its run_id), or use a larger device"
        )
    else:
        fix = f"passes of {fault.pass_size} images with batch.ghost={config.batch.ghost} are still too large"
    return UserError(f"{config.run_id} does not fit the device's memory: {fix}")


def release() -> None:
    """Frees the memory that the failed attempt still held."""
    gc.collect()
    accelerator.here().empty_cache()
