"""How fast a device does the work that `sns.launch.work` counts: measured here, or by its name."""

import json
import re
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from sns.common.errors import UserError
from sns.common.files import read_yaml
from sns.config.old import renamed
from sns.config.schema import Config
from sns.launch import work
from sns.launch.work import UncountableError, Work
from sns.method import METHODS
from sns.record import store
from sns.train.configure import configure

DOUBLE = 10e9  # float64 operations a second of one CPU core
MOST = 24  # cells read from records


@dataclass(frozen=True)
class Rates:
    """Operations a second by precision, bytes a second, seconds a call."""

    flops: dict[str, float]
    bytes: dict[str, float]
    call: float

    def seconds(self, done: Work, precision: str) -> float:
        """Seconds of some work at a precision."""
        device = done.flops / self.flops[precision] + done.bytes / self.bytes[precision] + done.calls * self.call
        return device + done.double / DOUBLE


def _rates(flops: Sequence[float], moved: Sequence[float], call: float) -> Rates:
    names = ("fp32", "tf32", "bf16")
    return Rates(dict(zip(names, flops, strict=True)), dict(zip(names, moved, strict=True)), call)


# One thread of a CPU, from the runs of results/runs/pocket on an Intel Xeon.
THREAD = _rates((62e9, 62e9, 31e9), (9.2e9, 9.2e9, 9.2e9), 30e-6)
# Captured updates on one card, not measured. H100: fitted to a count of operations, bytes and
# kernels; the others: the same times the ratios of the makers' figures.
CARDS = {
    "H100": _rates((32e12, 280e12, 370e12), (1.2e12, 1.8e12, 3.6e12), 1e-6),
    "H200": _rates((32e12, 280e12, 370e12), (1.7e12, 2.6e12, 5.1e12), 1e-6),
    "A100": _rates((14e12, 88e12, 115e12), (0.7e12, 1.1e12, 2.1e12), 1.5e-6),
}
UNKNOWN = _rates((8e12, 30e12, 50e12), (0.4e12, 0.5e12, 0.8e12), 2e-6)  # a GPU of any other name


@dataclass(frozen=True)
class Machine:
    """The device that runs are estimated for."""

    name: str
    host: bool  # whether it is a CPU
    threads: int = 1

    def rates(self, threads: int | None = None) -> Rates:
        """The rates of this kind of device, before any measurement here."""
        if not self.host:
            return next((rates for card, rates in CARDS.items() if card in self.name), UNKNOWN)
        count = threads or self.threads
        flops, moved = ({k: v * count for k, v in rates.items()} for rates in (THREAD.flops, THREAD.bytes))
        return Rates(flops, moved, THREAD.call)

    @property
    def basis(self) -> str:
        """What `rates` rests on, for the reader."""
        if self.host:
            return f"an Intel Xeon's speed a thread, {self.threads} threads: not measured here"
        known = next((card for card in CARDS if card in self.name), None)
        return f"a cost model of the {known}: not measured" if known else f"a guess, as {self.name} is not known"


@dataclass(frozen=True)
class Sample:
    """A measurement: seconds over those by `Machine.rates`, of training and of measuring."""

    source: str  # records | bench | timed
    precision: str
    training: float
    measuring: float | None = None


@cache
def results_of(folder: Path, device: str) -> dict[str, dict[str, list[Any]]]:
    """By setting and variant, the directory and result.json of each finished run on `device` in a
    folder of results. Files that cannot be read are left out."""
    found: dict[str, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for directory in store.run_directories(folder / "runs"):
        try:
            tree = json.loads((directory / store.RESULT).read_text(encoding="utf-8"))
            if tree["status"] == "ok" and tree["environment"]["device"] == device:
                found[tree["setting"]][tree["variant"]].append((directory, tree))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def of_records(folders: Sequence[Path], machine: Machine, setting: str | None, without: str = "") -> list[Sample]:
    """A sample for each variant of a setting, or of any, with records of this device.

    `without`: a variant to be left out.
    """
    samples: dict[str, Sample] = {}
    for folder in dict.fromkeys(folder.resolve() for folder in folders):
        found = results_of(folder, machine.name)
        for cells in found.values() if setting is None else [found.get(setting, {})]:
            for variant, runs in cells.items():
                if variant not in samples and variant != without and len(samples) < MOST:
                    sample = _of_runs(runs, machine)
                    samples |= {} if sample is None else {variant: sample}
    return list(samples.values())


def seconds_an_epoch(folders: Sequence[Path], machine: Machine, config: Config) -> float | None:
    """Of the finished runs of this setting on this device, of one that no operations are counted
    for: median seconds of training and measuring over epochs. Of the same method and optimizer if
    there are some, else of the same optimizer, else of all; None without any."""
    runs = [
        tree
        for folder in dict.fromkeys(folder.resolve() for folder in folders)
        for cell in results_of(folder, machine.name).get(config.setting, {}).values()
        for _, tree in cell
    ]
    wanted = {"optimizer": config.optim.name, "method": config.method.name}
    for keys in (("optimizer", "method"), ("optimizer",), ()):
        alike = [tree for tree in runs if all(tree[key] == wanted[key] for key in keys)]
        if alike:
            return float(statistics.median(_seconds(tree) / tree["epochs"] for tree in alike))
    return None


def _seconds(tree: dict[str, Any]) -> float:
    return float(tree["timings"]["train_seconds"] + tree["timings"]["measure_seconds"])


_read: dict[Path, Sample | None] = {}


def _of_runs(runs: Sequence[Any], machine: Machine) -> Sample | None:
    directory, tree = runs[0]
    if directory not in _read:
        _read[directory] = None
        try:
            config = configure(renamed(read_yaml(directory / store.CONFIG)))
            if METHODS[config.method.name].second_order:
                return None  # counting its derivatives imports sympy, for seconds
            if "recalibrated" not in (tree.get("measured") or {}):  # recorded before it was measured
                config = replace(config, measure=replace(config.measure, recalibration_samples=None))
            rates, precision = machine.rates(tree["environment"]["threads"]), config.train.precision
            took = [
                statistics.median(other["timings"][f"{what}_seconds"] for _, other in runs)
                for what in ("train", "measure")
            ]
            counted = work.training(config), work.measuring(config, machine.host)
            ratios = [t / rates.seconds(w, precision) for t, w in zip(took, counted, strict=True)]
            _read[directory] = Sample("records", precision, *ratios)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, UserError, yaml.YAMLError, UncountableError):
            pass
    return _read[directory]


NAMES = {  # in bench/results
    "VGG, CIFAR-10": "vgg_cifar10",
    "NIN, CIFAR-100": "nin_cifar100",
    "DenseNet-40, CIFAR-100": "densenet40_cifar100",
    "DenseNet-22, STL-10": "densenet22_stl10",
}
LINE = re.compile(r"(?:vanilla step|precision \w+), (.+), B = (\d+)")


@cache
def of_bench(folder: Path, device: str) -> list[tuple[str, int, str, int, float]]:
    """Setting, B, precision, threads and seconds of each vanilla update that bench/ or gpu-check
    measured on `device`."""
    found = []
    for file in sorted(folder.glob("*.json*")):
        try:
            found += list(_updates(file, device))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return found


def _updates(file: Path, device: str) -> Iterator[tuple[str, int, str, int, float]]:
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".jsonl":  # of gpu-check, the environment first
        environment, *lines = map(json.loads, text.splitlines())
    else:
        tree = json.loads(text)
        environment, lines = tree["environment"], [line for row in tree["rows"].values() for line in row["lines"]]
    if environment["device"] != device:
        return
    for line in lines:
        match, note = LINE.fullmatch(line["what"]), re.search("fp32|tf32|bf16", line.get("note", ""))
        if match and note and line["ours"] and match[1] in NAMES:
            size, median = int(match[2]), line["ours"]["median"]
            seconds = size / median if line["unit"] == "images/s" else median
            yield NAMES[match[1]], size, note[0], environment["threads"], seconds


def of_steps(folder: Path, machine: Machine, config: Config) -> list[Sample]:
    """The samples of bench/ and gpu-check for the setting of a run, at any batch."""
    return [
        Sample(
            "bench", precision, seconds / machine.rates(threads).seconds(work.plain_update(config, batch), precision)
        )
        for setting, batch, precision, threads, seconds in of_bench(folder, machine.name)
        if setting == config.setting
    ]
