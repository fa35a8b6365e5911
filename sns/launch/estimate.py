"""How long the runs of a sweep take on this device: counted operations over a measured speed.

Without a measurement, a speed by the device's name. On an idle device within a factor of two, where
there are measurements of the setting.
"""

import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from sns import method
from sns import task as tasks
from sns.common import accelerator
from sns.common.folders import project_folder
from sns.common.precision import autocast, training_precision
from sns.common.seed import generator
from sns.config.schema import Config
from sns.launch import throughput, work
from sns.launch.plan import planned, remaining
from sns.launch.throughput import Machine, Rates, Sample
from sns.method.base import Sums, Term, no_term
from sns.record.environment import describe
from sns.task import Setup
from sns.train.device import choose_device
from sns.train.progress import clock

DAY = 86_400.0
FEW = 1_000_000  # images of all training passes together: less than a day at 12 images a second
BENCH = project_folder("bench/results")
TIMING = 60.0  # seconds for all timings together
IMAGES = {True: 4, False: 1_024}  # of a timed pass, at most, on a CPU and on another device


class Estimator:
    """Seconds of a run on the device of its configuration, and what the estimate rests on."""

    def __init__(self, timing: bool = False, folder: Path = BENCH) -> None:
        """`timing`: whether real updates may be timed, for a minute in all. `folder`: the results
        of bench/."""
        self.end = time.monotonic() + TIMING if timing else 0.0
        self.folder, self.rests_on = folder, Counter[str]()
        self.machines: dict[tuple[str, int | None], Machine] = {}
        self.timed: dict[str, Sample] = {}

    def seconds(self, config: Config, without: str = "") -> float | None:
        """Seconds of training and measuring; None if unknown.

        `without`: the variant whose records are not used.
        """
        device = choose_device(config.train.device)
        machine = self._machine(config, device)
        if config.task.name != "classification":
            return self._of_another_task(config, machine, device)
        try:
            work.update(config)
        except work.UncountableError:
            return None
        return _scaled(config, machine, *self._samples(config, machine, device, without), self.rests_on)

    def basis(self) -> str:
        """One line: what the estimates rest on, with the number of runs."""
        parts = [f"{why} ({count} runs)" for why, count in self.rests_on.most_common() if count]
        return "operations counted; speed from " + "; ".join(parts) if parts else ""

    def _machine(self, config: Config, device: torch.device) -> Machine:
        key = str(device), config.train.threads
        if key not in self.machines:
            threads = config.train.threads or torch.get_num_threads()
            self.machines[key] = Machine(describe(device)["device"], accelerator.of(device).host, threads)
        return self.machines[key]

    def _samples(
        self, config: Config, machine: Machine, device: torch.device, without: str
    ) -> tuple[list[Sample], str]:
        """The measurements nearest to a run, and where they come from."""
        if time.monotonic() < self.end:
            return [self._time(config, machine, device)], "updates timed now"
        folders = _folders(config)
        own = throughput.of_records(folders, machine, config.setting, without)
        if own:
            return own, "records of the same setting on this machine"
        steps = throughput.of_steps(self.folder, machine, config)
        if steps:
            return steps, "updates of the same network in bench/results on this machine"
        others = throughput.of_records(folders, machine, None, without)
        return (others, "records of other settings on this machine") if others else ([], machine.basis)

    def _time(self, config: Config, machine: Machine, device: torch.device) -> Sample:
        """The passes of a few random images, against what is expected of them."""
        key = f"{config.model} {config.method} {config.train.precision} {work.images(config)[2:]} {device}"
        if key not in self.timed:
            count, precision = min(config.batch.size, IMAGES[machine.host]), config.train.precision
            expected = machine.rates().seconds(
                work.network(config).training(count, count) * work.problem(config).passes, precision
            )
            with training_precision(precision):
                self.timed[key] = Sample("timed", precision, _pass(config, device, count) / expected)
        return self.timed[key]

    def _of_another_task(self, config: Config, machine: Machine, device: torch.device) -> float | None:
        """From updates timed on the task's own data, without evaluations, else from records."""
        if time.monotonic() >= self.end:
            taken = throughput.seconds_an_epoch(_folders(config), machine, config)
            self.rests_on["records of the same setting on this machine"] += taken is not None
            return None if taken is None else taken * config.train.epochs
        task = tasks.build(Setup(config, device))

        def update() -> None:
            task.draw()
            task.update()

        self.rests_on["updates timed now"] += 1
        return task.length.updates * _second_call(update, device)


def _folders(config: Config) -> list[Path]:
    """Where there may be records: the run's results, and those of the project."""
    return [Path(config.results).expanduser(), project_folder("results")]


def _scaled(config: Config, machine: Machine, samples: list[Sample], why: str, rests_on: Counter[str]) -> float:
    """The expected seconds times the median ratio of the samples, those of the run's precision if
    there are some."""
    precision, rates = config.train.precision, machine.rates()
    near = [s for s in samples if s.precision == precision] or samples
    trained = statistics.median([s.training for s in near] or [1.0])
    measured = statistics.median([s.measuring for s in near if s.measuring is not None] or [trained])
    rests_on[why] += 1
    return trained * rates.seconds(work.training(config), precision) + measured * measuring_seconds(
        config, rates, machine.host
    )


def measuring_seconds(config: Config, rates: Rates, host: bool) -> float:
    """Expected seconds of all that a run measures. `host`: whether it trains on the CPU."""
    usual = "tf32" if config.train.precision == "tf32" else "fp32"
    forwards = work.forwards(config, host)
    others = work.measuring(config, host) + forwards * -1.0
    plain = usual if config.measure.precision == "fp32" else config.measure.precision
    return rates.seconds(others, usual) + rates.seconds(forwards, plain)


def _pass(config: Config, device: torch.device, count: int) -> float:
    """Seconds of the method's passes over `count` random images."""
    *_, channels, side, _ = work.images(config)
    net = work.build(config).to(device)
    chosen = method.build(config.method, net, generator(0, "power_iteration"))
    chosen.prepare()
    x, y = torch.randn(count, channels, side, side, device=device), torch.zeros(count, dtype=torch.int64, device=device)

    def risk(images: Tensor, share: float, term: Term = no_term) -> Sums:
        with autocast(config.train.precision, device):
            logits = net(images).float()
        ((F.cross_entropy(logits, y) + term(logits)) * share).backward()
        return {}

    return _second_call(lambda: chosen.backward(risk, x, 1.0), device)


def _second_call(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of the second of two calls; the first warms up."""
    call()
    accelerator.of(device).synchronize()
    began = time.perf_counter()
    call()
    accelerator.of(device).synchronize()
    return time.perf_counter() - began


def warning(configs: Sequence[Config]) -> str | None:
    """One sentence if the unfinished runs of a sweep take more than a day on this device.

    It says how long, and what smaller thing there is. None where they take less, or train on FEW
    images, which is not worth the half second of an estimate.
    """
    known = [config for config in configs if config.task.name == "classification"]
    if sum(config.train.epochs * work.images(config)[0] for config in known) <= FEW:
        return None
    left = remaining(planned(configs), Estimator().seconds)
    seconds = sum(value for value in left.values() if value is not None)
    return too_long(seconds, len(left), configs)


def too_long(seconds: float, runs: int, configs: Sequence[Config]) -> str | None:
    """The sentence of `warning` for an estimate of `seconds`."""
    if seconds <= DAY:
        return None
    smaller = ["`make pocket` (about six hours on two cores)"]
    if any(config.train.epochs > 96 and config.experiment.name == "table1" for config in configs):
        smaller.append("EXPERIMENT=table1_short (96 epochs instead of 300)")
    if len({config.setting for config in configs}) > 1:
        smaller.append(f"one setting (ARGS='setting={configs[0].setting}')")
    return f"{runs} runs need about {clock(seconds)} on this device; smaller: {', '.join(smaller)}"
