"""manifest.json of an experiment: every run that was ever launched, written before the first of
them starts."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sns.common.errors import UserError, first_line
from sns.common.files import write_text
from sns.record.faults import unreadable

FILE = "manifest.json"


def read(folder: Path) -> dict[str, Any]:
    """`{"launches": [...], "runs": {run_id: {...}}}`, empty where there is none; UserError if it is
    damaged."""
    file = folder / FILE
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {"launches": list(content["launches"]), "runs": dict(content["runs"])}
    except FileNotFoundError:
        return {"launches": [], "runs": {}}
    except OSError as error:
        raise unreadable(file, error) from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is damaged ({first_line(error)}): move it; the next launch writes another") from None


def add(folder: Path, runs: dict[str, list[str]], launch: dict[str, Any]) -> None:
    """Adds `runs` to the manifest of the experiment in `folder`, atomically; UserError where it
    cannot be written."""
    before = read(folder)
    after = merge(before, runs, launch)
    if after == before:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / FILE, json.dumps(after, indent=1) + "\n")
    except OSError as error:
        raise UserError(
            f"{folder / FILE} cannot be written ({first_line(error)}): make room or name another folder by results=..."
        ) from None


def merge(before: dict[str, Any], runs: dict[str, list[str]], launch: dict[str, Any]) -> dict[str, Any]:
    """The manifest with one more launch: `runs` maps run_ids to their overrides, `launch` holds
    commit and versions.

    Runs of earlier launches stay. Repeating a command with the same code and versions changes
    nothing.
    """
    launches: list[dict[str, Any]] = list(before["launches"])
    index = next((i for i, entry in enumerate(launches) if _lasting(entry) == _lasting(launch)), len(launches))
    if index == len(launches):
        launches.append(launch)
    added = {
        run_id: {"overrides": overrides, "hash": run_id.rpartition("__")[2], "launch": index}
        for run_id, overrides in runs.items()
    }
    return {"launches": launches, "runs": before["runs"] | added}


def _lasting(launch: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in launch.items() if key != "time"}


def launch_of(command: Sequence[str], described: dict[str, Any]) -> dict[str, Any]:
    """What the runs of one launch share: command, code and versions. `described`: the environment,
    by `sns.record.environment`."""
    shared = {key: described[key] for key in ("python", "packages", "commit", "dirty")}
    return {"command": " ".join(command), **shared, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
