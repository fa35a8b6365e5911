"""Installs the kit's packages beside those of the machine, and imports all that the project needs.

python -m tools.offline_kit.install BASE  # with the Python of work/venv

Only packages that the kit brings bring their dependencies. What the machine's own packages ask for
is not looked at: where several frameworks share an image, torch's metadata often names versions of
setuptools or cuDNN that the image does not have, and torch works.
"""

import re
import subprocess
import sys
import sysconfig
from importlib import import_module, invalidate_caches
from importlib.metadata import distributions, packages_distributions
from pathlib import Path

from sns.common.errors import UserError, first_line

ADVICE = "install it on the machine, or build the kit with a --has that does not list it"


def install(base: Path, lines: list[str]) -> None:
    """Installs those of `lines` that the machine lacks, then what these need, and so on."""
    known = {"pip", "setuptools"}
    while lines:
        _pip(base / "wheels", lines)
        brought = [d for d in distributions(path=[sysconfig.get_path("purelib")]) if d.name not in known]
        known |= {d.name for d in brought}
        lines = sorted({line for d in brought for line in d.requires or () if "extra ==" not in line})


def _pip(wheels: Path, lines: list[str]) -> None:
    """UserError if neither the machine nor the kit has a version of a line."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
    command += ["--no-index", "--no-deps", "--find-links", str(wheels), *lines]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        found = re.search(r"No matching distribution found for (.+)", done.stderr)
        reason = f"neither has {found[1]}" if found else (done.stderr.strip().splitlines() or ["pip failed"])[-1]
        raise UserError(f"the packages of the machine and of the kit do not suffice ({reason}); {ADVICE}")


def check(lines: list[str]) -> None:
    """Imports the packages of `lines`. UserError if one cannot be imported."""
    invalidate_caches()
    owners = packages_distributions()
    for line in lines:
        name = re.split(r"[^\w.-]", line, maxsplit=1)[0]
        modules = [m for m, names in owners.items() if name.lower() in map(str.lower, names) and m[0] != "_"]
        try:
            for module in [name] if name in modules else modules or [name]:
                import_module(module)
        except Exception as error:  # also what a library raises that does not fit another one
            raise UserError(f"{name} cannot be imported ({first_line(error)}); {ADVICE}") from None


def main(base: str) -> int:
    """0, or 1 with one line on stderr."""
    lines = (Path(base) / "requirements.txt").read_text(encoding="utf-8").split("\n")
    lines = [line for line in lines if line]
    try:
        install(Path(base), lines)
        check(lines)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
