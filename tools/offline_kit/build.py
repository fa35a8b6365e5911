"""Builds the folder that a machine without network needs to train.

python -m tools.offline_kit.build --images cifar10.npz cifar-100-python --out build/gpu-kit

It holds run.sh (the one command), base/ (the commit's files, requirements, wheels, checksums) and
images/ (packs, see pack.py). docs/gpu.md describes the way from here to there.
"""

import argparse
import gzip
import io
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

from sns.common.command import Parser, reports_errors
from sns.common.errors import UserError, first_line
from sns.record.commit import STATED, statement
from tools.offline_kit.pack import MIB, load, pack, sha256

ROOT = Path(__file__).resolve().parents[2]
HAS = ("torch", "torchvision", "numpy", "pillow", "pandas", "scipy", "matplotlib", "scikit-learn")
EXTRAS = ("train", "report")  # of pyproject.toml
SINGLE = ("pytest", "wandb")  # of other extras
NO_WHEEL = ("antlr4-python3-runtime",)  # the index has its source only; it is pure Python, so that a wheel fits there
SPLIT = 48.0  # MiB: with the tracked files of a checkout, 13 MiB, it stays below a limit of 64 MiB
GLIBC = range(5, 29)  # any Linux with glibc 2.28; pip wants every tag by name


def requirements(has: tuple[str, ...], without: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """What the machine needs, and the part of it that the kit brings; lines of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].items()
    lines = [*project["dependencies"]]
    lines += [line for extra, group in extras for line in group if extra in EXTRAS or _name(line) in SINGLE]
    lines = [line for line in lines if _name(line) != project["name"]]
    unknown = set(without) - {_name(line) for line in lines}
    if unknown:
        raise UserError(f"--without {' '.join(sorted(unknown))} is no dependency; see pyproject.toml")
    needed = [line for line in lines if _name(line) not in without]
    return needed, [line for line in needed if _name(line) not in has]


def _name(requirement: str) -> str:
    return Requirement(requirement).name.lower()


def source(out: Path) -> str:
    """Writes the files of HEAD, and the file COMMIT, to the archive `out`; returns the commit."""
    commit = _git("rev-parse", "HEAD").decode().strip()
    plain = _git("archive", "--format=tar", "HEAD")
    with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
        members = {member.name: archive.extractfile(member) for member in archive.getmembers() if member.isfile()}
        text = statement(commit, {name: file.read() for name, file in members.items() if file is not None}).encode()
    joined = io.BytesIO(plain)
    with tarfile.open(fileobj=joined, mode="a") as archive:
        entry = tarfile.TarInfo(STATED)
        entry.size, entry.mode = len(text), 0o644
        archive.addfile(entry, io.BytesIO(text))
    out.write_bytes(gzip.compress(joined.getvalue(), mtime=0))
    return commit


def _git(*arguments: str) -> bytes:
    try:
        return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        raise UserError(f"{ROOT} is no git checkout with a commit; build the kit in a clone of the project") from None


def wheels(out: Path, lines: list[str], python: str) -> None:
    """Downloads the packages `lines` and their dependencies for Linux on x86-64 and `python`."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    pinned = ["--constraint", str(ROOT / "constraints.txt")]
    tags = [f"manylinux_2_{minor}_x86_64" for minor in reversed(GLIBC)] + ["manylinux2014_x86_64", "manylinux1_x86_64"]
    target = ["--only-binary=:all:", "--implementation=cp", f"--python-version={python}", "--dest", str(out)]
    target += [f"--platform={tag}" for tag in tags]
    _run([*pip, "wheel", "--no-deps", *pinned, "--wheel-dir", str(out), *NO_WHEEL])
    _run([*pip, "download", "--find-links", str(out), *pinned, *target, *lines])
    _run([*pip, "download", "--no-deps", *target, "--requirement", str(ROOT / "bench" / "requirements.txt")])


def _run(command: list[str]) -> None:
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.splitlines() or ["pip failed"]
        reason = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1])
        raise UserError(f"the wheels could not be downloaded ({reason}); check the network, or correct --has")


def base(out: Path, options: argparse.Namespace) -> str:
    """Fills base/; returns the commit."""
    (out / "wheels").mkdir(parents=True)
    commit = source(out / "source.tar.gz")
    needed, brought = requirements(tuple(options.has), tuple(options.without))
    (out / "requirements.txt").write_text("\n".join(needed) + "\n", encoding="utf-8")
    (out / "python").write_text(f"{options.python}\n", encoding="utf-8")
    if not options.no_wheels:
        wheels(out / "wheels", brought, options.python)
    files = [path for path in sorted(out.rglob("*")) if path.is_file()]
    sums = [f"{sha256(path.read_bytes())}  {path.relative_to(out).as_posix()}\n" for path in files]
    (out / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")
    return commit


def build(out: Path, options: argparse.Namespace) -> Iterator[str]:
    """Builds the kit and then renames it to `out`; yields lines for the user."""
    aside = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        commit = base(aside / "base", options)
        shutil.copy2(Path(__file__).with_name("run.sh"), aside)
        for path in options.images:
            content = load(pack(path, aside / "images", int(options.part_mib * MIB)))
            before, after = (sum(entry["bytes"] for entry in content[key]) for key in ("files", "parts"))
            yield f"{path.name}: {before / MIB:.1f} MiB packed to {after / MIB:.1f}, {len(content['parts'])} part(s)"
        if out.exists():
            if not (out / "base" / "SHA256SUMS").is_file():
                raise UserError(f"{out} exists and is not a kit; name another place with --out")
            shutil.rmtree(out)
        aside.rename(out)
    except OSError as error:
        raise UserError(f"{out} cannot be written ({first_line(error)}); free space or choose another place") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    yield f"{out}: commit {commit}, Python {options.python}"
    if _git("status", "--porcelain", "-uno"):
        yield "warning: uncommitted changes are not in it"
    if not options.images:
        yield "warning: no images; name some with --images (IMAGES=... of make), or train on digits only"


def split(out: Path, limit: float) -> Iterator[str]:
    """Copies the kit to OUT-transfers/1, 2, ..., each at most `limit` MiB where that is possible.

    Their contents, copied into one folder, are the kit again. Yields the size of each.
    """
    folders: list[list[tuple[Path, int]]] = []
    for item in (out / "run.sh", out / "base", *sorted((out / "images").glob("*"))):
        size = sum(path.stat().st_size for path in (item, *item.rglob("*")) if path.is_file())
        place = next((group for group in folders if sum(s for _, s in group) + size <= limit * MIB), None)
        if place is None:
            folders.append(place := [])
        place.append((item, size))
    target = out.with_name(f"{out.name}-transfers")
    shutil.rmtree(target, ignore_errors=True)
    for number, group in enumerate(folders, start=1):
        for item, _ in group:
            copy = target / str(number) / item.relative_to(out)
            copy.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if item.is_dir() else shutil.copy2)(item, copy)
        total = sum(size for _, size in group) / MIB
        yield f"{target / str(number)}: {total:.1f} MiB"
        if total > limit:
            yield f"warning: more than {limit:g} MiB; leave wheels out with --without, or take smaller parts"
    yield "after each transfer copy its files to one other folder: the next may replace them, work/ and results/ too"


@reports_errors
def main(arguments: list[str] | None = None) -> int:
    """Builds the kit."""
    parser = Parser(description="Build the folder that a machine without network needs.")
    add = parser.add_argument
    add("--out", type=Path, default=ROOT / "build" / "gpu-kit", help="folder of the kit (build/gpu-kit)")
    add("--images", type=Path, nargs="*", default=[], help="archives to pack: .npz files, unpacked official folders")
    add("--python", default="3.12", help="Python of that machine (3.12)")
    add("--has", nargs="*", default=list(HAS), help=f"packages of that machine ({' '.join(HAS)})")
    add("--without", nargs="*", default=[], help="dependencies to do without, such as wandb and plotly")
    add("--no-wheels", action="store_true", help="bring no wheels: the machine has every package")
    add("--part-mib", type=float, default=8.0, help="largest part of the images, in MiB (8)")
    split_help = f"also copy the kit to folders OUT-transfers/1, ... of at most MIB ({SPLIT:g})"
    add("--split", type=float, nargs="?", const=SPLIT, metavar="MIB", help=split_help)
    options = parser.parse_args(arguments)
    if not options.part_mib * MIB >= 1:
        raise UserError(f"--part-mib={options.part_mib} must be positive; 8 suits most transfers")
    for line in build(options.out, options):
        print(line, flush=True)
    for line in split(options.out, options.split) if options.split else ():
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
