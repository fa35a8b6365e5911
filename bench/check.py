"""What a new GPU machine is good for, in about three minutes: scripts/gpu_check.py."""

import json
import re
import statistics
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from bench.cells import NETWORKS, Plan, cell, configured, update
from bench.guard import Stop, guarded, stopped
from bench.line import Line, added
from bench.modes import PRECISIONS, step
from bench.packing import WORTH, packing
from bench.render import printed
from bench.steps import floor_distance
from bench.timing import paired
from sns.common import accelerator
from sns.launch.estimate import Estimator
from sns.launch.sweep import dry_run
from sns.record.environment import describe
from sns.train.run import run
from sns.train.stop import Interrupted

ROW = 11
METHODS = ("vanilla", "decay", "adversarial", "spectral")
GAIN = 1.1  # of the table's hours, below which a coarser precision is not recommended
BOXES = {
    "smoke": 45.0,
    "steps": 55.0,
    "floor": 20.0,
    "spectral": 10.0,
    "passes": 15.0,
    "packing": 20.0,
    "compiled": 30.0,
}  # seconds, at most
TOGETHER = {"launch.per_gpu": "2 at a time", "launch.per_process": "2 in turns"}  # the lines that tell their gain
PASS = ("batch.size=1024", "batch.micro=1024", "batch.ghost=256")  # one large pass


class Check:
    """The steps, and the JSON lines of what they found."""

    def __init__(self, plan: Plan, out: Path, scale: float = 1.0) -> None:
        """`out`: the file of the lines. `scale`: times the seconds of every step."""
        self.plan, self.out, self.scale = plan, out, scale
        self.lines: list[Line] = []
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text("", encoding="utf-8")

    def write(self, what: str, **facts: Any) -> None:
        """Prints and writes one line that is not a timing."""
        with self.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"what": what, **facts}) + "\n")
        print(f"{what}: " + ", ".join(f"{key}={value}" for key, value in facts.items()), flush=True)

    def main(self) -> int:
        """0; 1 if the smoke run failed, after its trace."""
        card = accelerator.of(self.plan.device)
        self.write("environment", **describe(self.plan.device), free_bytes=card.free_bytes())
        try:
            with stopped(BOXES["smoke"] * self.scale, "of the smoke run"):
                self.smoke()
        except (Exception, Stop):
            self.write("smoke", failed=traceback.format_exc())
            traceback.print_exc()
            return 1
        for name, part in self.parts().items():
            self._within(name, part)
        self.recommend()
        return 0

    def smoke(self) -> None:
        """Every method on digits: stopped, resumed and finished, in the expected mode."""
        graph = accelerator.of(self.plan.device).captures
        for method in METHODS:
            began = time.monotonic()
            words = [
                "setting=digits_vgg",
                f"method={method}",
                "train.epochs=2",
                "data.subset=400",
                "train.progress=none",
            ]
            words += [f"train.device={self.plan.device_name}", f"results={self.plan.folder}", "track=disabled"]
            words += ["model.widths=[[4],[4],[4]]", "model.dropout=[[0.1],[0.1],[0.1]]"] if self.plan.tiny else []
            with suppress(Interrupted):
                run(configured(*words, "train.stop_after=7"))
                raise RuntimeError("the run was not stopped at train.stop_after=7")
            result = run(configured(*words))
            mode, sessions = result.environment["mode"], result.timings["sessions"]
            if result.status != "ok" or mode != ("graph" if graph else "eager") or sessions != 2:
                raise RuntimeError(f"{result.status} in mode {mode}, {sessions} sessions: {result.reason}")
            self.write("smoke", method=method, mode=mode, seconds=round(time.monotonic() - began, 1))

    def parts(self) -> dict[str, Callable[[Plan], Iterator[Line]]]:
        """The timings by name, the most useful first."""
        return {
            "steps": self.steps,
            "floor": lambda plan: self._each(plan, "floor", floor_distance, list(NETWORKS)),
            "spectral": lambda plan: guarded(plan, ROW, "spectral penalty", partial(_spectral, plan)),
            "passes": self.passes,
            "packing": lambda plan: packing(plan, ["vgg_cifar10"], most=2),
            "compiled": self.compiled,
        }

    def steps(self, plan: Plan) -> Iterator[Line]:
        """All networks, precisions, and both sizes of a pass."""
        cases = [(p, s, r) for r in ("small", "large") for p in PRECISIONS for s in NETWORKS]
        each = replace(plan, budget=plan.budget / len(cases))
        for precision, setting, regime in cases:
            words = [f"train.precision={precision}", *(PASS if regime == "large" and not plan.tiny else ())]
            yield from self._step(each, setting, regime, f"precision {precision}", words)

    def passes(self, plan: Plan) -> Iterator[Line]:
        """VGG's large batch in passes of one ghost batch and of four."""
        for size in (16, 32) if plan.tiny else (256, 1_024):
            words = [*(() if plan.tiny else PASS), f"batch.micro={size}"]
            yield from self._step(
                replace(plan, budget=plan.budget / 2), "vgg_cifar10", "large", f"passes of {size}", words
            )

    def compiled(self, plan: Plan) -> Iterator[Line]:
        """The compiled step in bf16. A compilation takes up to a minute: some may be left out."""
        for setting in () if plan.tiny else NETWORKS:
            words = ["train.mode=compile", "train.precision=bf16"]
            yield from self._step(replace(plan, budget=1.0), setting, "small", "mode compile", words)

    def _step(self, plan: Plan, setting: str, regime: str, label: str, words: list[str]) -> Iterator[Line]:
        what = f"{label}, {NETWORKS[setting][0]}, {regime} batch"
        return guarded(plan, ROW, what, partial(step, plan, setting, regime, label, *words))

    def _each(
        self, plan: Plan, what: str, case: Callable[[Plan, str, str], Iterator[Line]], settings: list[str]
    ) -> Iterator[Line]:
        for setting in settings:
            yield from guarded(plan, ROW, f"{what}, {NETWORKS[setting][0]}", partial(case, plan, setting, "small"))

    def _within(self, name: str, part: Callable[[Plan], Iterator[Line]]) -> None:
        """The lines of a part, for its time."""
        seconds = BOXES[name] * self.scale
        plan = replace(
            self.plan, budget=min(seconds, 1.0) if self.plan.tiny else seconds, ends=time.monotonic() + seconds
        )
        try:
            with stopped(seconds, f"of {name}"):
                for line in part(plan):
                    self._add(line)
        except Stop as stop:
            self._add(Line(ROW, f"the rest of {name}", "", note=f"left out: {stop}"))
            if not stop.late:
                raise

    def _add(self, line: Line) -> None:
        print(printed(line), flush=True)
        self.lines.append(line)
        with self.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line.to_dict()) + "\n")

    def recommend(self) -> None:
        """The table's GPU-hours by precision, and the settings that follow from the timings."""
        hours: dict[str, float] = {}
        for precision in PRECISIONS:
            words = ["experiment=table1", f"train.precision={precision}", f"train.device={self.plan.device_name}"]
            estimator = Estimator(folder=self.out.parent)
            seconds = [estimator.seconds(sweep_run.config) for sweep_run in dry_run(words)[0]]
            hours[precision] = sum(value for value in seconds if value is not None) / 3600
            self.write("table", precision=precision, hours=round(hours[precision], 2), basis=estimator.basis())
        best = "fp32"
        for precision in PRECISIONS[1:]:
            best = precision if hours[precision] * GAIN < hours[best] else best
        rates = {match[1]: line.ours.median for line in self.lines if (match := _PASSES.match(line.what)) and line.ours}
        gains = {key: self._gain(start) for key, start in TOGETHER.items()}
        chosen: dict[str, Any] = {"train.precision": best}
        chosen |= {"batch.micro": int(max(rates, key=lambda size: rates[size]))} if rates else {}
        better = max(gains, key=lambda key: gains[key] or 0.0)
        for key, gain in gains.items():
            if gain is not None:
                chosen[key] = 2 if key == better and gain >= WORTH else 1
        self.write("recommended", **chosen)

    def _gain(self, start: str) -> float | None:
        """The median gain of the lines that begin with `start`; None if there are none."""
        found = [line.figure.median for line in self.lines if line.what.startswith(start) and line.figure]
        return statistics.median(found) if found else None


_PASSES = re.compile(r"passes of (\d+), VGG")


def _spectral(plan: Plan) -> Iterator[Line]:
    sessions = {name: cell(plan, "vgg_cifar10", f"method={name}") for name in ("vanilla", "spectral")}
    works = {name: update(session) for name, session in sessions.items()}
    taken = paired(works, plan.device, plan.budget, rounds=7)
    what = f"spectral step, VGG, CIFAR-10{' (tiny)' if plan.tiny else ''}, B = {sessions['vanilla'].config.batch.size}"
    yield added(
        ROW, what, "vanilla step", taken["spectral"], taken["vanilla"], target=3.0, note=sessions["vanilla"].mode
    )
