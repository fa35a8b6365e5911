"""Seconds from records to everything a reader sees, on a synthetic full grid: 32 cells x 5 seeds x 300 epochs.

python bench/analysis.py [--seeds 5] [--epochs 300]
"""

import argparse
import contextlib
import io
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "scripts")]


def main() -> None:
    """Prints a row a script and the total."""
    parser = argparse.ArgumentParser(description="Times table, figures, claims and report on synthetic records.")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=300)
    options = parser.parse_args()
    began = time.perf_counter()
    import claims
    import figures
    import report
    import table1
    from synthetic import write_grid

    from sns.analysis.grid import METHODS, PAPER_SETTINGS, REGIMES

    rows = [("imports", time.perf_counter() - began)]
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder) / "runs" / "table1"
        write_grid(runs, PAPER_SETTINGS, METHODS, REGIMES, range(options.seeds), epochs=options.epochs)
        for name, script in (("table1", table1), ("figures", figures), ("claims", claims), ("report", report)):
            began = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()):
                code = script.main([folder])
            rows.append((name, time.perf_counter() - began))
            if code != 0:
                raise SystemExit(f"error: {name} failed")
        size = (Path(folder) / "table1" / "report.html").stat().st_size / 1e6
    print(f"{32 * options.seeds} runs of {options.epochs} epochs; report {size:.1f} MB")
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    for name, seconds in [*rows, ("total", sum(seconds for _, seconds in rows))]:
        print(f"{name:8} {seconds:6.1f} s")


if __name__ == "__main__":
    main()
