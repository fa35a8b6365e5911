"""What an update of each method costs relative to vanilla, from the files of `make bench`."""

import json
import re
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

from sns.common.folders import project_folder

BENCH = project_folder("bench/results")
ROW = "12"  # of bench: the methods on classifiers
WHAT = re.compile(r"(?P<method>\w+) update, (?P<setting>\w+), B = (?P<batch>\d+)")


@dataclass(frozen=True)
class Cost:
    """An update's time over that of vanilla in the same round: median and range over rounds."""

    median: float
    low: float
    high: float


def costs(devices: Container[str], folder: Path = BENCH, row: str = ROW) -> dict[tuple[str, int, str], Cost]:
    """By setting, batch size and method, on one of `devices`; empty where none has the `row`."""
    found: dict[tuple[str, int, str], Cost] = {}
    for path in sorted(folder.glob("*.json"), reverse=True):  # of several devices the first by name counts
        tree = json.loads(path.read_text(encoding="utf-8"))
        if tree["environment"]["device"] not in devices:
            continue
        for line in tree["rows"].get(row, {"lines": []})["lines"]:
            match, figure = WHAT.fullmatch(line["what"]), line["figure"]
            if match and figure is not None:
                key = match["setting"], int(match["batch"]), match["method"]
                found[key] = Cost(figure["median"], figure["low"], figure["high"])
    return found
