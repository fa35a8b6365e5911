"""Offline runs to the server: what is not there yet, each with a time limit, as often as one
likes."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml

from sns.common.errors import UserError
from sns.config.schema import TrackConfig
from sns.record import store
from sns.track.client import Mirror, opening
from sns.track.credentials import address, credentials, unanswered
from sns.track.wandb_run import CLOSED

COMMAND = (sys.executable, "-m", "wandb", "sync")


def require_server() -> str:
    """The server's address; UserError without credentials, or where nobody answers."""
    if credentials() is None:
        raise UserError("no credentials for Weights & Biases: run `wandb login`, or set WANDB_API_KEY, and repeat")
    server = address()
    fault = unanswered(server)
    if fault is not None:
        raise UserError(f"{server} cannot be reached ({fault}): nothing was uploaded; repeat where there is a network")
    return server


def folders(wandb: Path) -> dict[str, list[Path]]:
    """{run_id: W&B's folders of its sessions that were written to their end, in order of start}."""
    found: dict[str, list[Path]] = {}
    for folder in sorted(wandb.glob("*run-*-*"), key=lambda path: path.name.removeprefix("offline-")):
        if (folder / CLOSED).is_file():
            found.setdefault(folder.name.removeprefix("offline-").split("-", 2)[2], []).append(folder)
    return found


def unwritten(runs: Path, wandb: Path) -> list[Path]:
    """Run directories that are over without a whole mirror: untracked, or the mirror was killed."""
    known = folders(wandb)
    whole = {run_id for run_id, all_of_it in known.items() if any(_over(folder) for folder in all_of_it)}
    return [path for path in store.run_directories(runs) if store.is_finished(path) and path.name not in whole]


def _over(folder: Path) -> bool:
    return (folder / CLOSED).read_text(encoding="utf-8").strip() == "over"


def write(directories: Sequence[Path], results: Path, say: Callable[[str], None]) -> None:
    """Mirrors runs that are over, offline; waits for it."""
    if not directories:
        return
    mirror = Mirror()
    os.set_blocking(mirror.input.fileno(), True)  # here nothing waits for us
    for directory in directories:
        config = yaml.safe_load((directory / store.CONFIG).read_text(encoding="utf-8"))
        track = TrackConfig(**config.get("track", {}))
        mirror.send(opening(directory, 0, "offline", results, track))
        mirror.send({"do": "close", "rows": sys.maxsize, "over": True})
    mirror.close(60.0 + 30.0 * len(directories))
    for line in mirror.heard():
        say(line)


def waiting(wandb: Path) -> list[Path]:
    """The newest whole folder of each run, which holds all of its history, unless it has been
    uploaded."""
    newest = [all_of_it[-1] for all_of_it in folders(wandb).values()]
    return [path for path in newest if path.name.startswith("offline-") and not list(path.glob("*.synced"))]


def upload(folder: Path, seconds: float, command: Sequence[str] = COMMAND) -> None:
    """Uploads one folder; UserError where that fails or takes longer than `seconds`."""
    try:
        done = subprocess.run([*command, str(folder)], capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise UserError(f"{folder.name} was not uploaded within {seconds:g} seconds: repeat to go on there") from None
    if done.returncode != 0:
        told = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise UserError(f"{folder.name} was not uploaded: {told[-1] if told else f'exit code {done.returncode}'}")
