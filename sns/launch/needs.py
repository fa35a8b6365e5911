"""What the runs of a sweep need, checked once before the first of them starts."""

import shutil
from collections import Counter
from collections.abc import Callable, Sequence

from sns.common.errors import UserError
from sns.config.schema import Config
from sns.data.ready import require
from sns.launch import work
from sns.launch.handover import SweepRun
from sns.train.device import choose_device

STATE = 8  # bytes a weight in a checkpoint: itself and its momentum


def missing(runs: Sequence[SweepRun]) -> dict[SweepRun, str]:
    """Those runs that cannot start here, each with a sentence: its device, or its data set, which
    is downloaded now if it may be. Each is asked for once."""
    answers: dict[str, str] = {}

    def answer(key: str, check: Callable[[], object]) -> str:
        if key not in answers:
            try:
                check()
                answers[key] = ""
            except UserError as error:
                answers[key] = str(error)
        return answers[key]

    lacking: dict[SweepRun, str] = {}
    for run in runs:
        device, data = run.config.train.device, run.config.data
        sentence = answer(f"device {device}", lambda: choose_device(device))  # noqa: B023  called at once
        if not sentence and data is not None:
            sentence = answer(f"{data.name} {data.root} {data.path}", lambda: require(data))  # noqa: B023
        if sentence:
            lacking[run] = sentence
    return lacking


def lines(lacking: dict[SweepRun, str]) -> list[str]:
    """A line for each thing that is missing."""
    return [f"{sentence} [{count} runs need it]" for sentence, count in Counter(lacking.values()).items()]


def disk(configs: Sequence[Config]) -> str | None:
    """A sentence if the disk has too little room for the checkpoints of all runs; else None."""
    if not configs:
        return None
    needed, largest = 0, 0
    for config in configs:
        try:
            size = STATE * work.network(config).parameters if config.task.name == "classification" else 0
        except work.UncountableError:
            size = 0
        needed, largest = needed + size * config.train.keep_checkpoint, max(largest, size)
    needed += 2 * largest  # the one before, and the one that is being written
    folder = next(path for path in configs[0].directory.absolute().parents if path.is_dir())
    free = shutil.disk_usage(folder).free
    if needed <= free:
        return None
    return (
        f"the checkpoints of {len(configs)} runs need {needed / 1e9:.2g} GB, {folder} has {free / 1e9:.2g} GB free: "
        "make room, name another folder by results=..., or set train.keep_checkpoint=false"
    )
