"""Uploads offline runs to the server: only what is missing there, each with a time limit."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from sns.common.errors import UserError
from sns.common.files import read_yaml
from sns.config.schema import TrackConfig
from sns.record import store
from sns.track.client import Mirror, open_message
from sns.track.credentials import connection_fault, credentials, server_address
from sns.track.wandb_run import CLOSED, STOPPED

COMMAND = (sys.executable, "-m", "wandb", "sync")


def require_server() -> str:
    """The server's address; UserError without credentials or without an answer."""
    if credentials() is None:
        raise UserError("no credentials for Weights & Biases; run `wandb login`, or set WANDB_API_KEY, and repeat")
    server = server_address()
    fault = connection_fault(server)
    if fault is not None:
        raise UserError(f"{server} cannot be reached ({fault}), so that nothing was uploaded; repeat with a network")
    return server


def closed_sessions(wandb: Path) -> dict[str, list[Path]]:
    """{run_id: W&B's folders of its completely written sessions, in order of start}."""
    sessions: dict[str, list[Path]] = {}
    for folder in sorted(wandb.glob("*run-*-*"), key=lambda path: path.name.removeprefix("offline-")):
        if (folder / CLOSED).is_file():
            sessions.setdefault(folder.name.removeprefix("offline-").split("-", 2)[2], []).append(folder)
    return sessions


def without_mirror(runs: Path, wandb: Path) -> list[Path]:
    """Finished run directories that no complete session shows."""
    sessions = closed_sessions(wandb).items()
    complete = {run_id for run_id, folders in sessions if any(_is_complete(folder) for folder in folders)}
    return [path for path in store.run_directories(runs) if store.is_finished(path) and path.name not in complete]


def _is_complete(folder: Path) -> bool:
    return (folder / CLOSED).read_text(encoding="utf-8").strip() != STOPPED


def write_offline(directories: Sequence[Path], results: Path, say: Callable[[str], None]) -> None:
    """Mirrors finished runs, offline; waits until they are written."""
    if not directories:
        return
    mirror = Mirror()
    os.set_blocking(mirror.input.fileno(), True)  # no run waits for this process
    for directory in directories:
        config = read_yaml(directory / store.CONFIG)
        track = TrackConfig(**config.get("track", {}))
        mirror.send(open_message(directory, 0, "offline", results, track))
        mirror.send({"do": "close", "rows": sys.maxsize, "finished": True})
    mirror.close(60.0 + 30.0 * len(directories))
    for line in mirror.notices():
        say(line)


def pending(wandb: Path) -> list[Path]:
    """The newest closed session of each run, which has all its history, unless it is uploaded."""
    newest = [folders[-1] for folders in closed_sessions(wandb).values()]
    return [path for path in newest if path.name.startswith("offline-") and not list(path.glob("*.synced"))]


def upload(folder: Path, seconds: float, command: Sequence[str] = COMMAND) -> None:
    """Uploads one folder; UserError where that fails or takes longer than `seconds`."""
    try:
        done = subprocess.run([*command, str(folder)], capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise UserError(
            f"{folder.name} was not uploaded within {seconds:g} seconds; repeat to continue there"
        ) from None
    if done.returncode != 0:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise UserError(f"{folder.name} was not uploaded: {lines[-1] if lines else f'exit code {done.returncode}'}")
