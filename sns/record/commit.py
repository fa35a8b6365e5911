"""The commit of the code in use."""

import hashlib
import subprocess
from pathlib import Path
from typing import Any

STATED = "COMMIT"  # next to sns/ in a copy without git: a line with the commit, then "<SHA-256>  <path>" of its files


def commit(root: Path | None = None) -> dict[str, Any]:
    """{commit, dirty}: the commit, and whether tracked files differ from it; None if unknown.

    `root`, the folder that holds sns/, is a git checkout, or a copy by tools/offline_kit with the
    file COMMIT.
    """
    root = root or Path(__file__).resolve().parents[2]
    if not (root / ".git").exists() and (root / STATED).is_file():
        return _stated(root)  # git would answer for a checkout that contains this copy

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(root / "sns"), *arguments], capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    ours = git("ls-files", "__init__.py")  # nothing for a package installed inside another project's checkout
    head = git("rev-parse", "HEAD") if ours else None
    return {
        "commit": head,
        "dirty": None if head is None else bool(git("status", "--porcelain", "-uno", "--", ".")),
    }


def statement(head: str, files: dict[str, bytes]) -> str:
    """The text of COMMIT for the commit `head` and `files`, {path: content}; only sns/ counts."""
    sums = [f"{hashlib.sha256(data).hexdigest()}  {path}" for path, data in files.items() if path.startswith("sns/")]
    return "\n".join([head, *sums]) + "\n"


def _stated(root: Path) -> dict[str, Any]:
    try:
        head, *lines = (root / STATED).read_text(encoding="utf-8").splitlines()
        return {"commit": head, "dirty": not all(_same(root, *line.split("  ", 1)) for line in lines)}
    except (OSError, ValueError, TypeError):
        return {"commit": None, "dirty": None}


def _same(root: Path, digest: str, path: str) -> bool:
    file = root / path
    return file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == digest
