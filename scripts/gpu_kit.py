"""Builds the folder that a machine without network needs to train: code, wheels, images and one
entry command.

python scripts/gpu_kit.py --images data/cifar10.npz data/cifar-100-python --out build/gpu-kit

What comes of it: run.sh (tools/gpu_kit.sh says how to call it), base/ (the commit's files,
requirements, wheels and their checksums) and images/ (packs of scripts/pack_data.py). docs/gpu.md
is the whole way.
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

import pack_data
from packaging.requirements import Requirement

from sns.common.errors import UserError, first_line
from sns.data.pack import MIB, sha256
from sns.record.commit import STATED, statement

ROOT = Path(__file__).resolve().parents[1]
TORCH = ("torch", "torchvision")
HAS = (*TORCH, "numpy", "pillow", "pandas", "scipy", "matplotlib", "scikit-learn")  # of a usual image for training
TESTING = ("pytest",)
NO_WHEEL = ("antlr4-python3-runtime",)  # in the index as source only; pure Python: what is built here fits there
GLIBC = range(5, 29)  # wheels for any Linux with glibc 2.28: pip wants every tag by name


def requirements(has: tuple[str, ...], without: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """(all that the machine must have, those of them that the kit brings), as in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    developers = [line for line in project["optional-dependencies"]["dev"] if _name(line) in TESTING]
    wanted = [line for line in (*project["dependencies"], *developers) if _name(line) not in without]
    unknown = set(without) - {_name(line) for line in (*project["dependencies"], *developers)}
    if unknown:
        raise UserError(f"--without {' '.join(sorted(unknown))} is no dependency; see pyproject.toml")
    return wanted, [line for line in wanted if _name(line) not in has]


def _name(requirement: str) -> str:
    return Requirement(requirement).name.lower()


def source(out: Path) -> str:
    """Writes the files of the present commit, and COMMIT, to the archive `out`; returns the
    commit."""
    found = _git("rev-parse", "HEAD").decode().strip()
    plain = _git("archive", "--format=tar", "HEAD")
    with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
        members = {member.name: archive.extractfile(member) for member in archive.getmembers() if member.isfile()}
        text = statement(found, {name: file.read() for name, file in members.items() if file is not None}).encode()
    joined = io.BytesIO(plain)
    with tarfile.open(fileobj=joined, mode="a") as archive:
        entry = tarfile.TarInfo(STATED)
        entry.size, entry.mode = len(text), 0o644
        archive.addfile(entry, io.BytesIO(text))
    out.write_bytes(gzip.compress(joined.getvalue(), mtime=0))
    return found


def _git(*arguments: str) -> bytes:
    try:
        return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        raise UserError(f"{ROOT} is no git checkout with a commit; build the kit in a clone of the project") from None


def wheels(out: Path, lines: list[str], python: str) -> None:
    """Downloads what `lines` name, with all that they need, for Linux on x86-64 and Python
    `python`."""
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
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise UserError(f"the wheels cannot be had ({said[-1] if said else 'pip failed'}); connect, or mend --has")


def base(out: Path, options: argparse.Namespace) -> str:
    """Fills base/; returns the commit."""
    (out / "wheels").mkdir(parents=True)
    commit = source(out / "source.tar.gz")
    has = TORCH if options.full else tuple(options.has)
    wanted, brought = requirements(has, tuple(options.without))
    (out / "requirements.txt").write_text("\n".join(wanted) + "\n", encoding="utf-8")
    (out / "python").write_text(f"{options.python}\n", encoding="utf-8")
    if not options.no_wheels:
        wheels(out / "wheels", brought, options.python)
    files = [path for path in sorted(out.rglob("*")) if path.is_file()]
    sums = [f"{sha256(path.read_bytes())}  {path.relative_to(out).as_posix()}\n" for path in files]
    (out / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")
    return commit


def build(out: Path, options: argparse.Namespace) -> Iterator[str]:
    """Builds the kit in `out`, put there whole at the end; lines about it."""
    aside = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        commit = base(aside / "base", options)
        shutil.copy2(ROOT / "tools" / "gpu_kit.sh", aside / "run.sh")
        for path in options.images:
            yield pack_data.packed(path, aside / "images", options.part_mib)
        if out.exists():
            if not (out / "base" / "SHA256SUMS").is_file():
                raise UserError(f"{out} is there and is no kit; name another place with --out")
            shutil.rmtree(out)
        aside.rename(out)
    except OSError as error:
        raise UserError(f"{out} cannot be written ({first_line(error)}); free space or choose another place") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    yield f"{out}: commit {commit}, Python {options.python}"
    if _git("status", "--porcelain", "-uno"):
        yield "warning: changes that are not committed are not in it"
    if not options.images:
        yield "warning: no images; name some with --images (IMAGES=... of make), or train on digits only"


def transfers(out: Path, limit: float) -> list[dict[str, int]]:
    """run.sh, base and every file of images, with their bytes, in groups of at most `limit` MiB
    where that can be."""
    groups: list[dict[str, int]] = [{}]
    for item in (out / "run.sh", out / "base", *sorted((out / "images").glob("*"))):
        size = sum(path.stat().st_size for path in (item.rglob("*") if item.is_dir() else [item]) if path.is_file())
        place = next((group for group in groups if sum(group.values()) + size <= limit * MIB), None)
        if place is None:
            groups.append(place := {})
        place[item.relative_to(out).as_posix()] = size
    return [group for group in groups if group]


def split(out: Path, groups: list[dict[str, int]]) -> Path:
    """Copies of the groups in OUT-transfers/1, 2, ...; all of them in one folder are the kit
    again."""
    folder = out.with_name(f"{out.name}-transfers")
    shutil.rmtree(folder, ignore_errors=True)
    for number, group in enumerate(groups, start=1):
        for name in group:
            target = folder / str(number) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            _copy(out / name, target)
    return folder


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy2(source, target)


def told(groups: list[dict[str, int]], limit: float) -> Iterator[str]:
    """The size of every item, in the groups in which it can travel, and of all."""
    for number, group in enumerate(groups, start=1):
        total = sum(group.values()) / MIB
        yield f"transfer {number} of {len(groups)}: {total:.1f} MiB"
        yield from (f"  {size / MIB:8.3f} MiB  {name}" for name, size in group.items())
        if total > limit:
            yield f"warning: more than {limit:g} MiB: leave wheels out with --without, or take smaller parts"
    yield f"total: {sum(sum(group.values()) for group in groups) / MIB:.1f} MiB"


def main(arguments: list[str] | None = None) -> int:
    """0 if the kit is built, 1 after an error that the user can put right."""
    parser = argparse.ArgumentParser(description="Build the folder that a machine without network needs.")
    add = parser.add_argument
    add("--out", type=Path, default=ROOT / "build" / "gpu-kit", help="folder of the kit (build/gpu-kit)")
    add("--images", type=Path, nargs="*", default=[], help="archives to pack: .npz files, unpacked official folders")
    add("--python", default="3.12", help="Python of that machine (3.12)")
    add("--has", nargs="*", default=list(HAS), help=f"what that machine has ({' '.join(HAS)})")
    add("--full", action="store_true", help="bring everything but torch and torchvision")
    add("--without", nargs="*", default=[], help="dependencies to do without, such as wandb and plotly")
    add("--no-wheels", action="store_true", help="bring no wheels: the machine has everything")
    add("--part-mib", type=float, default=8.0, help="size of a part of the images at most, in MiB (8)")
    add("--transfer-mib", type=float, default=64.0, help="what one transfer may carry, in MiB (64)")
    add("--split", action="store_true", help="also lay out each transfer as a folder, OUT-transfers/1, 2, ...")
    options = parser.parse_args(arguments)
    try:
        for line in build(options.out, options):
            print(line, flush=True)
        groups = transfers(options.out, options.transfer_mib)
        print("\n".join(told(groups, options.transfer_mib)))
        if options.split:
            print(f"laid out in {split(options.out, groups)}")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
