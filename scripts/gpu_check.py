"""A new GPU machine in about three minutes: does every method run, how fast, what follows from it.

python scripts/gpu_check.py [--device auto] [--out FILE.jsonl] [--scale 1.0]

Prints and writes JSON lines: versions and card; a smoke run of all methods in graph mode, stopped
and resumed; images a second of the four networks; the distance to a bare step; the spectral
penalty's cost; the GPU-hours of the table; recommended options. Exit code 1, with the trace, if a
smoke run fails. `make reproduce-table1 DRY=1` reads the figures from bench/results.
"""

import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.cells import Plan  # noqa: E402
from bench.check import Check  # noqa: E402
from sns.common import accelerator  # noqa: E402
from sns.common.command import Parser, reports_errors  # noqa: E402
from sns.common.errors import UserError  # noqa: E402
from sns.record.environment import describe  # noqa: E402
from sns.train.device import choose_device  # noqa: E402


@reports_errors
def main(arguments: list[str] | None = None) -> int:
    """0; 1 if a smoke run fails."""
    parser = Parser(description="A new GPU machine in about three minutes.")
    parser.add_argument("--device", default="auto", help="as train.device: auto (default), cpu, cuda, cuda:N")
    parser.add_argument("--out", type=Path, help="default bench/results/gpu-check-DEVICE.jsonl")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the time of every step; default 1")
    parser.add_argument("--tiny", action="store_true", help="small networks on digits, for tests")
    options = parser.parse_args(arguments)
    device = choose_device(options.device)
    if accelerator.of(device).host and not options.tiny:
        raise UserError("there is no GPU here; --tiny tries the check itself on the CPU")
    name = re.sub(r"[^a-z0-9]+", "-", describe(device)["device"].lower()).strip("-")
    out = options.out or ROOT / "bench" / "results" / f"gpu-check-{name}.jsonl"
    with TemporaryDirectory() as folder:
        return Check(Plan(device, Path(folder), options.tiny), out, options.scale).main()


if __name__ == "__main__":
    sys.exit(main())
