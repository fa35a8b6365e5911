"""A queue of runs over slots on one machine: a new process for each run, bound to its device.

On CPUs under Linux the process is forked from one that has imported everything, so that a run
starts at once. Elsewhere Python starts anew: libraries of a GPU read their variables when they are
imported, and those of macOS do not bear a fork.
"""

import atexit
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Protocol

from sns.common.errors import UserError
from sns.config.schema import LaunchConfig
from sns.train.stop import RESUMABLE, Handlers, Interrupted

POLL = 0.1  # seconds
FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(
    ["sns.launch.attempt", "sns.launch.guest", "hydra.main", "torch.fx.experimental.symbolic_shapes"]
)


@dataclass(frozen=True)
class Slot:
    """A place where one run trains at a time, and the environment variables of its process.

    `threads`: those of torch in a forked process; None where Python starts anew and reads the
    variables.
    """

    name: str
    environment: tuple[tuple[str, str], ...]
    threads: int | None = None


@dataclass(frozen=True)
class Task:
    """A process to start: Python, a script and its arguments."""

    name: str
    command: tuple[str, ...]


class Child(Protocol):
    """A process that was started, as subprocess.Popen has it."""

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None before the end."""

    def send_signal(self, number: int) -> None:
        """Sends a signal."""


class Forked:
    """A process forked from one that has imported what a run needs."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], threads: int) -> None:
        self.process = FORKSERVER.Process(target=_run_script, args=(tuple(command), dict(environment), threads))
        before = dict(os.environ)
        os.environ.update(environment)  # the first call starts the process that imports torch
        try:
            self.process.start()
        finally:
            os.environ.clear()
            os.environ.update(before)

    def poll(self) -> int | None:
        """As subprocess.Popen."""
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        """As subprocess.Popen."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)


def _run_script(command: Sequence[str], environment: Mapping[str, str], threads: int) -> None:
    """The script of `command`, in this forked process, as its main program."""
    import torch

    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(threads)
    sys.argv[:] = command[1:]
    try:
        runpy.run_path(command[1], run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # which multiprocessing leaves out before Python 3.13


def visible_gpus(environment: Mapping[str, str], count: int) -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them: what the variable
    lists, else 0 ... count - 1.
    """
    listed = environment.get("CUDA_VISIBLE_DEVICES")
    if listed is None:
        return [str(index) for index in range(count)]
    return [name.strip() for name in listed.split(",") if name.strip()][:count]


def slots_for(
    device: str, threads: int | None, launch: LaunchConfig, gpus: Sequence[str], cores: int, runs: int
) -> list[Slot]:
    """The slots of this machine, at most `runs`.

    On GPUs, `launch.per_gpu` slots for each GPU, or for each group of `launch.gpus_per_run`. On
    CPUs, `launch.processes` slots that share the cores. `device` and `threads` are train.device and
    train.threads; `gpus` names the visible GPUs. UserError for a device that several runs cannot
    share.
    """
    if device not in ("auto", "cuda", "cpu"):
        raise UserError(f"train.device={device} cannot be divided by hydra/launcher=local: leave it at auto")
    if device == "cuda" and not gpus:
        raise UserError("train.device=cuda asks for a GPU, but none is visible; use train.device=cpu")
    each = launch.gpus_per_run
    if bool(gpus) and device != "cpu":
        if len(gpus) < each:
            raise UserError(f"launch.gpus_per_run={each} asks for more GPUs than the {len(gpus)} that are visible")
        groups = [",".join(gpus[i : i + each]) for i in range(0, len(gpus) - each + 1, each)]
        places = [(f"GPU {group}", group) for _ in range(launch.per_gpu) for group in groups][:runs]
    else:
        wanted = launch.processes or max(1, cores // (threads or 1))
        places = [(f"CPU slot {index}", "") for index in range(min(wanted, runs))]
    share = str(threads or max(1, cores // max(1, len(places))))
    common = (("OMP_NUM_THREADS", share), ("MKL_NUM_THREADS", share), ("CUDA_DEVICE_ORDER", "PCI_BUS_ID"))
    threads = int(share) if sys.platform == "linux" else None
    return [Slot(name, (*common, ("CUDA_VISIBLE_DEVICES", gpu)), None if gpu else threads) for name, gpu in places]


class Relay(Handlers):
    """Within the context a signal to stop is noted and passed on by `passes`, as SIGTERM.

    A second Ctrl-C is passed on as SIGKILL. A signal that was ignored on entry (nohup) stays
    ignored.
    """

    NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR2")

    def __init__(self, passes: Callable[[int], None]) -> None:
        super().__init__()
        self.passes, self.received = passes, ""

    def _handles(self, number: int) -> bool:
        return signal.getsignal(number) != signal.SIG_IGN

    def _receive(self, number: int, frame: FrameType | None) -> None:
        again = self.received == "SIGINT" and number == signal.SIGINT
        self.received = self.received or signal.Signals(number).name
        self.passes(signal.SIGKILL if again else signal.SIGTERM)


class Pool:
    """Runs tasks over slots; a task that fails or is killed never stops the others."""

    def __init__(
        self,
        slots: Sequence[Slot],
        retries: int,
        say: Callable[[str], None] = print,
        admits: Callable[[str], bool] = lambda name: True,
    ) -> None:
        """`admits`: whether the task of this name may start, asked right before its start; if not,
        it is dropped."""
        self.slots, self.retries, self.say, self.admits = list(slots), retries, say, admits
        self.running: dict[Slot, tuple[Task, Child]] = {}

    def run(self, tasks: Sequence[Task]) -> dict[str, int]:
        """The last exit code of every task that was started, by name, negative for a signal.

        A task that a signal killed is put at the end of the queue, at most `retries` times.
        Interrupted where this process is asked to stop, once all tasks have ended.
        """
        waiting, codes, killed = deque(tasks), dict[str, int](), dict[str, int]()
        with Relay(self._pass_on) as relay:
            while (waiting and not relay.received) or self.running:
                for slot in self.slots:
                    while slot not in self.running and waiting and not relay.received:
                        task = waiting.popleft()
                        if not self.admits(task.name):
                            continue
                        self._start(slot, task)
                        if relay.received:  # a signal came while the process was being started
                            self._pass_on(signal.SIGTERM)
                for task, code in self._ended():
                    codes[task.name] = code
                    self.say(f"{task.name}: {_outcome(code)} ({len(waiting)} waiting)")
                    killed[task.name] = killed.get(task.name, 0) + (code < 0)
                    if code < 0 and killed[task.name] <= self.retries:
                        waiting.append(task)
                time.sleep(POLL)
        if relay.received:
            raise Interrupted(f"{relay.received}: every run was asked to save; the same command resumes")
        return codes

    def _start(self, slot: Slot, task: Task) -> None:
        self.say(f"{task.name}: starts on {slot.name}")
        environment = os.environ | dict(slot.environment)
        # a session of its own: Ctrl-C reaches the children through this process alone, and once
        if slot.threads is None:
            null = subprocess.DEVNULL
            child: Child = subprocess.Popen(task.command, env=environment, stdin=null, start_new_session=True)
        else:
            child = Forked(task.command, environment, slot.threads)
        self.running[slot] = (task, child)

    def _pass_on(self, number: int) -> None:
        for _, child in list(self.running.values()):
            if child.poll() is None:
                child.send_signal(number)

    def _ended(self) -> list[tuple[Task, int]]:
        ended: list[tuple[Task, int]] = []
        for slot, (task, child) in list(self.running.items()):
            code = child.poll()
            if code is not None:
                del self.running[slot]
                ended.append((task, code))
        return ended


def _outcome(code: int) -> str:
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return {0: "finished", RESUMABLE: "stopped, resumable"}.get(code, f"ended with code {code}")
