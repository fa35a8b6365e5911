"""The commit of the code in use."""

import subprocess
from pathlib import Path
from typing import Any


def commit() -> dict[str, Any]:
    """{commit, dirty}: the commit and whether tracked files differ from it; None outside a git checkout."""
    folder = Path(__file__).resolve().parents[1]  # sns/

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    found = git("rev-parse", "HEAD")
    return {
        "commit": found,
        "dirty": None if found is None else bool(git("status", "--porcelain", "-uno", "--", ".")),
    }
