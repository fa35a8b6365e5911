"""Packs images for a machine without network into a few smaller files, and restores them there to
the byte.

python scripts/pack_data.py pack cifar10.npz ~/.cache/sns/cifar-100-python --out packed [--part-mib 32]
python scripts/pack_data.py unpack packed --out FOLDER      # then data.path=FOLDER/cifar10.npz, data.root=FOLDER

SOURCE is an .npz file as data=npz reads it, or the unpacked folder of CIFAR-10, CIFAR-100 or
STL-10. Unpacking needs numpy alone; an interrupted one leaves nothing and is begun again; what is
there already is checked and left.
"""

import argparse
import sys
import time
from pathlib import Path

from sns.common.errors import DataError, UserError
from sns.data import pack


def packed(source: Path, out: Path, part_mib: float) -> str:
    """Packs and says in a line what became of it."""
    begun = time.perf_counter()
    content = pack.load(pack.pack(source, out, int(part_mib * pack.MIB)))
    before, after = (sum(entry["bytes"] for entry in content[key]) for key in ("files", "parts"))
    parts = [part["bytes"] for part in content["parts"]]
    return (
        f"{source.name}: {before / 1e6:.1f} MB packed to {after / 1e6:.1f} MB ({after / before:.1%}), {len(parts)} "
        f"part(s) of at most {max(parts) / pack.MIB:.1f} MiB, in {time.perf_counter() - begun:.1f} s"
    )


def manifests(places: list[Path]) -> list[Path]:
    """The manifests that are named, or lie in the folders that are named."""
    found: list[Path] = []
    for place in places:
        inside = sorted(place.glob(f"*{pack.MANIFEST}")) if place.is_dir() else [place]
        if not inside:
            raise DataError(f"{place} holds no *{pack.MANIFEST}; name the folder that holds the packs")
        found += inside
    return found


def unpacked(manifest: Path, out: Path) -> str:
    """Unpacks and says in a line what became of it."""
    begun = time.perf_counter()
    new = pack.unpack(manifest, out)
    place = out / pack.load(manifest)["name"]
    return f"{place}: {'unpacked' if new else 'there already, checked'}, {time.perf_counter() - begun:.1f} s"


def main(arguments: list[str] | None = None) -> int:
    """0 if everything was packed or unpacked, 1 after an error that the user can put right."""
    parser = argparse.ArgumentParser(description="Pack images into smaller files, or restore them.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, what in (("pack", "an .npz file or an unpacked official folder"), ("unpack", "a manifest or its folder")):
        sub = verbs.add_parser(verb)
        sub.add_argument("sources", nargs="+", type=Path, metavar="SOURCE", help=what)
        sub.add_argument("--out", type=Path, required=True, help="folder to write to")
    verbs.choices["pack"].add_argument("--part-mib", type=float, default=32.0, help="size of a part at most, in MiB")
    options = parser.parse_args(arguments)
    try:
        if options.verb == "pack" and not options.part_mib * pack.MIB >= 1:
            raise UserError(f"--part-mib={options.part_mib} must be positive; 32 suits most transfers")
        sources = options.sources if options.verb == "pack" else manifests(options.sources)
        for source in sources:
            work = packed(source, options.out, options.part_mib) if options.verb == "pack" else None
            print(work or unpacked(source, options.out), flush=True)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
