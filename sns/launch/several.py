"""One run over several GPUs of this machine: a process for each GPU, started as torchrun would."""

import os
import socket
import subprocess
import time
from collections.abc import Sequence

from sns.train.stop import RESUMABLE, Interrupted, StopSignal, call_launcher_handler

POLL, GRACE = 0.05, 20.0  # seconds; how long processes may run on after another one failed


def is_one_of_several() -> bool:
    """Whether this process is one of several of a run, started by `start` or by torchrun."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def start(count: int, command: Sequence[str]) -> int:
    """Runs `command` in `count` processes; the exit code is that of the first one that failed, else
    0.

    A signal to stop is passed on. Interrupted is raised once all processes have saved and ended.
    """
    with StopSignal() as stop:
        port = _port()
        processes = [subprocess.Popen(command, env=_environment(rank, count, port)) for rank in range(count)]
        try:
            _wait(processes, stop)
        finally:
            for process in processes:
                process.kill()
                process.wait()
    codes = [process.returncode for process in processes]
    failed = [code for code in codes if code not in (0, RESUMABLE)]
    if not failed and RESUMABLE in codes:
        call_launcher_handler(stop.received or "")
        raise Interrupted("stopped; the same command resumes it", stop.received or "")
    own = [code for code in failed if code > 0]  # the others may have been killed because of it
    return (own or failed or [0])[0]


def _wait(processes: list["subprocess.Popen[bytes]"], stop: StopSignal) -> None:
    """Returns when all have ended, or `GRACE` seconds after one of them failed."""
    passed_on, failed_at = False, None
    while any(process.poll() is None for process in processes):
        if stop.received is not None and not passed_on:
            passed_on = True
            for process in processes:
                process.terminate()
        if failed_at is None and any(process.poll() not in (None, 0, RESUMABLE) for process in processes):
            failed_at = time.monotonic()
        if failed_at is not None and time.monotonic() - failed_at > GRACE:
            return
        time.sleep(POLL)


def _environment(rank: int, count: int, port: int) -> dict[str, str]:
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": port}
    return os.environ | {"MASTER_ADDR": "127.0.0.1"} | {name: str(value) for name, value in place.items()}


def _port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
