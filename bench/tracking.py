"""Measures the cost of tracking: wall time of the run's thread, CPU time of the other processes.

python bench/tracking.py [--epochs 300] [--runs 2]

The runs are synthetic directories whose rows appear one after the other, so that only tracking is
timed. Linux only.
"""

import argparse
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
TICK = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Prints a line a run and one for the mirror."""
    parser = argparse.ArgumentParser(description="What tracking costs a run.")
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--runs", type=int, default=2)
    options = parser.parse_args()
    from conftest import TINY, compose_tree
    from synthetic import write_run

    from sns.common.files import write_text
    from sns.record import store
    from sns.track import client
    from sns.train.configure import configure

    with tempfile.TemporaryDirectory() as folder:
        spent: dict[int, float] = {}
        for seed in range(options.runs):
            config = configure(compose_tree(*TINY, f"results={folder}", "track=offline", f"seed={seed}"))
            source = write_run(Path(folder) / "source", "digits_vgg", "vanilla", "small", seed, epochs=options.epochs)
            config.directory.mkdir(parents=True)
            for file in source.iterdir():
                (config.directory / file.name).write_bytes(file.read_bytes())
            write_text(config.directory / store.CONFIG, (source / store.CONFIG).read_text())
            history: list[int] = []
            times = [time.perf_counter()]
            with client.Tracker(config, history, lambda line: None, here=True) as tracker:
                times.append(time.perf_counter())
                if seed == 0:
                    threading.Thread(target=_watch, args=(client._mirrors[0].child.pid, spent), daemon=True).start()
                costs = []
                for epoch in range(options.epochs):
                    history.append(epoch)
                    began = time.perf_counter()
                    tracker.update()
                    costs.append(time.perf_counter() - began)
                    time.sleep(0.02)
                costs.sort()
                times.append(time.perf_counter())
            times.append(time.perf_counter())
            print(
                f"run {seed}: opening {1e3 * (times[1] - times[0]):.1f} ms; an evaluation "
                f"{1e6 * costs[len(costs) // 2]:.0f} us (median), {1e6 * costs[-1]:.0f} us (most); "
                f"closing {1e3 * (times[3] - times[2]):.1f} ms"
            )
        began = time.perf_counter()
        client.close_mirrors(600.0)
        print(f"the mirror was done {time.perf_counter() - began:.1f} s after the last run")
        print(f"CPU of all other processes: {sum(spent.values()):.1f} s for {options.runs} runs")


def _watch(session: int, spent: dict[int, float]) -> None:
    """Notes the CPU seconds of every process of the mirror's session while it lives."""
    while True:
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[3]) == session:
                spent[int(stat.parent.name)] = (int(fields[11]) + int(fields[12])) / TICK
        time.sleep(0.1)


if __name__ == "__main__":
    main()
